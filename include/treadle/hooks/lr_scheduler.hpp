#pragma once

#include <treadle/engine/hook_base.hpp>

#include <cstddef>

namespace torch::optim {
class Optimizer;
}

namespace treadle {
class LRScheduler;
}

namespace treadle::hooks {

/// Records "lr", the rate of one parameter group that stands for all, and steps the schedule after every iteration. The group is
/// chosen by base rates when the run begins, so that a resumed run shows the same one. Loop thread only. State: the schedule's.
class LRScheduler final : public HookBase {
 public:
  /// Both are borrowed; the schedule must be one of this optimizer.
  LRScheduler(torch::optim::Optimizer& optimizer, treadle::LRScheduler& scheduler)
      : optimizer_(optimizer), scheduler_(scheduler) {}
  /// The index of the group whose rate is shown, by the rates that are set now: see `treadle::summary_group`. Throws Error when
  /// the optimizer has no group.
  static std::size_t get_best_param_group_id(const torch::optim::Optimizer& optimizer);
  Phase phase() const override { return Phase::schedule; }
  void before_train(TrainerBase& trainer) override;
  void after_step(TrainerBase& trainer) override;

  Dict state_dict() const override;
  void check_state_dict(const Dict& state) const override;
  void load_state_dict(const Dict& state) override;

 private:
  torch::optim::Optimizer& optimizer_;
  treadle::LRScheduler& scheduler_;
  std::size_t group_ = 0;
};

}  // namespace treadle::hooks

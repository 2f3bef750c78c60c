#pragma once

#include <treadle/engine/hook_base.hpp>

namespace torch::optim {
class Optimizer;
}

namespace treadle {
class LRScheduler;
}

namespace treadle::hooks {

/// Records "lr" and steps the schedule after every iteration. Loop thread only. State: the schedule's.
class LRScheduler final : public HookBase {
 public:
  /// Both are borrowed; the schedule must be one of this optimizer.
  LRScheduler(torch::optim::Optimizer& optimizer, treadle::LRScheduler& scheduler)
      : optimizer_(optimizer), scheduler_(scheduler) {}
  Phase phase() const override { return Phase::schedule; }
  void before_train(TrainerBase& trainer) override;
  void after_step(TrainerBase& trainer) override;

  Dict state_dict() const override;
  void check_state_dict(const Dict& state) const override;
  void load_state_dict(const Dict& state) override;

 private:
  torch::optim::Optimizer& optimizer_;
  treadle::LRScheduler& scheduler_;
};

}  // namespace treadle::hooks

#pragma once

#include <treadle/engine/hook_base.hpp>

#include <functional>

namespace treadle::hooks {

/// Records "time", the seconds of each step with the hooks in front of this one, and logs the speed of the run at its end. Loop
/// thread only. Both begin with the `warmup_iter`-th iteration of a run, as in Detectron2; a resumed run, which has a record to
/// go on with, records from its first. Register it first.
class IterationTimer final : public HookBase {
 public:
  /// `clock` gives seconds and is replaced by tests. Throws ConfigError when `warmup_iter` is negative.
  explicit IterationTimer(std::int64_t warmup_iter = 3, std::function<double()> clock = nullptr);
  Phase phase() const override { return Phase::timing; }
  void before_train(TrainerBase& trainer) override;
  void before_step(TrainerBase& trainer) override;
  void after_step(TrainerBase& trainer) override;
  void after_train(TrainerBase& trainer) override;

 private:
  std::int64_t warmup_iter_;
  std::function<double()> clock_;
  double start_ = 0;  // of the run, after the warm-up
  double step_start_ = 0;
  double steps_total_ = 0;  // seconds in steps, after the warm-up
  bool step_open_ = false;
};

}  // namespace treadle::hooks

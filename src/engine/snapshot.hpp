#pragma once

#include <treadle/base/value.hpp>
#include <treadle/engine/simple_trainer.hpp>

namespace torch::nn {
class Module;
}

namespace treadle {

/// What a run can go back to without its source: a checkpoint in memory, but for the position of the source.
class SimpleTrainer::Snapshot {
 public:
  /// The state in front of the iteration that `loop` is about to begin.
  void take(const TrainerBase& loop, const torch::nn::Module& model);
  void restore(TrainerBase& loop, torch::nn::Module& model) const;
  /// The iteration that follows on the state; -1 without one.
  std::int64_t next_iteration() const noexcept { return next_iteration_; }

 private:
  std::int64_t next_iteration_ = -1;
  Dict model_, trainer_, events_, rng_;
};

}  // namespace treadle

#pragma once

#include <treadle/engine/hook_base.hpp>
#include <treadle/hooks/metric_mode.hpp>

#include <cstdint>
#include <optional>
#include <string>

namespace treadle::hooks {

struct EarlyStoppingOptions {
  std::string metric{};               ///< the scalar that decides: "bbox/AP"
  MetricMode mode = MetricMode::max;  ///< whether it should grow or shrink
  std::int64_t patience = 10;         ///< values in a row without improvement that end the run, at least 1
  double min_delta = 0;               ///< an improvement is larger than this; finite, at least 0
};
/// Throws ConfigError that names the field.
void validate(const EarlyStoppingOptions& options);

/// Asks the run to stop when a metric has stopped improving: after `patience` recorded values in a row that do not better the
/// best by more than `min_delta`. A value counts once, in the iteration it was recorded for or in the next, which is when
/// SimpleTrainerOptions.async_write_metrics brings the losses. NaN and infinity are no improvement. Loop thread only; register it
/// behind what records the metric. In a group the ranks that have the metric decide, which for an EvalHook is the main process.
/// State: metric, mode, "best", "best_iter", "stalled", the values since the best, and "judged", the iteration of the newest
/// value; a state of another metric or mode is forgotten with a warning. A run that is resumed after it was stopped stops again
/// with the next value that is no improvement.
class EarlyStopping final : public HookBase {
 public:
  explicit EarlyStopping(EarlyStoppingOptions options);
  Phase phase() const override { return Phase::best_checkpoint; }
  void after_step(TrainerBase& trainer) override;
  /// Warns when the metric was never recorded in a run that is complete.
  void after_train(TrainerBase& trainer) override;

  Dict state_dict() const override;
  void check_state_dict(const Dict& state) const override;
  void load_state_dict(const Dict& state) override;

 private:
  EarlyStoppingOptions options_;
  std::optional<double> best_;
  std::int64_t best_iter_ = -1;
  std::int64_t judged_iter_ = -1;
  std::int64_t stalled_ = 0;
};

}  // namespace treadle::hooks

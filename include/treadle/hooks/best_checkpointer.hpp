#pragma once

#include <treadle/engine/hook_base.hpp>
#include <treadle/hooks/metric_mode.hpp>
#include <treadle/hooks/scope.hpp>

#include <cstdint>
#include <optional>
#include <string>

namespace treadle {
class Checkpointer;
}

namespace treadle::hooks {

struct BestCheckpointerOptions {
  std::int64_t period = 0;            ///< that of the EvalHook in front; 0: looks at the end only
  std::string metric{};               ///< the scalar that decides: "bbox/AP"
  MetricMode mode = MetricMode::max;  ///< whether the largest or the smallest value is the best
  std::string file_prefix = "model_best";
  /// That of the EvalHook: the weights in force inside it are those that were scored.
  Scope scope{};
};
/// Throws ConfigError that names the field.
void validate(const BestCheckpointerOptions& options);

/// Saves the weights that scored best so far as `model_best`, at the iterations where an EvalHook of the same period evaluates.
/// Loop thread only; all ranks; the metric of the main process counts. The checkpointer is borrowed.
///
/// Only a value recorded in the iteration under way is looked at, since later the model is no longer the one that was scored; a
/// missing one is warned about. NaN and infinity never win, and an equal value does not replace the best. `last_checkpoint` stays
/// as it is. The file is a whole checkpoint; with a `scope`, whose weights are not those that training goes on with, it holds the
/// model and "best" = {"metric", "value", "iteration"} alone.
/// State: metric, mode, "best_metric" and "best_iter"; a state of another metric or mode is forgotten with a warning.
class BestCheckpointer final : public HookBase {
 public:
  BestCheckpointer(Checkpointer& checkpointer, BestCheckpointerOptions options);
  Phase phase() const override { return Phase::best_checkpoint; }
  void after_step(TrainerBase& trainer) override;
  void after_train(TrainerBase& trainer) override;

  /// The best value so far, and the iteration that recorded it; nothing, and -1, before the first.
  std::optional<double> best_metric() const noexcept { return best_metric_; }
  std::int64_t best_iter() const noexcept { return best_iter_; }

  Dict state_dict() const override;
  void check_state_dict(const Dict& state) const override;
  void load_state_dict(const Dict& state) override;

 private:
  void check(TrainerBase& trainer);
  void save();

  Checkpointer& checkpointer_;
  BestCheckpointerOptions options_;
  std::optional<double> best_metric_;
  std::int64_t best_iter_ = -1;
};

}  // namespace treadle::hooks

// What the config says to the room `engine`.
#include <defaults/validate_as.hpp>
#include <treadle/base/errors.hpp>
#include <treadle/defaults/options.hpp>

namespace treadle {
SimpleTrainerOptions simple_trainer_options(const Config& config) {
  SimpleTrainerOptions options;
  options.batches_per_step = config.get_int("TREADLE.SOLVER.BATCHES_PER_STEP");
  options.gather_metric_period = config.get_int("TREADLE.SOLVER.GATHER_METRIC_PERIOD");
  options.async_write_metrics = config.get_bool("TREADLE.SOLVER.ASYNC_WRITE_METRICS");
  options.non_finite = {
      .action = choice<NonFiniteAction>(
          config, "TREADLE.SOLVER.NON_FINITE",
          {{"stop", NonFiniteAction::stop}, {"skip", NonFiniteAction::skip}, {"rollback", NonFiniteAction::roll_back}}),
      .max_skips = config.get_int("TREADLE.SOLVER.MAX_SKIPPED_STEPS"),
      .check_gradients = config.get_bool("TREADLE.SOLVER.CHECK_GRADIENTS"),
      .rollback_period = config.get_int("TREADLE.SOLVER.ROLLBACK_PERIOD"),
      .max_rollbacks = config.get_int("TREADLE.SOLVER.MAX_ROLLBACKS")};
  options.resume = resume_settings(config);
  with_keys(config,
            {{"SimpleTrainerOptions.batches_per_step", "TREADLE.SOLVER.BATCHES_PER_STEP"},
             {"SimpleTrainerOptions.gather_metric_period", "TREADLE.SOLVER.GATHER_METRIC_PERIOD"},
             {"SimpleTrainerOptions.async_write_metrics", "TREADLE.SOLVER.ASYNC_WRITE_METRICS"},
             {"SimpleTrainerOptions.non_finite.rollback_period", "TREADLE.SOLVER.ROLLBACK_PERIOD"},
             {"SimpleTrainerOptions.non_finite.max_rollbacks", "TREADLE.SOLVER.MAX_ROLLBACKS"},
             {"SimpleTrainerOptions.non_finite.max_skips", "TREADLE.SOLVER.MAX_SKIPPED_STEPS"}},
            [&] { validate(options); });
  return options;
}

std::optional<AmpOptions> amp_options(const Config& config) {
  if (!config.get_bool("SOLVER.AMP.ENABLED")) return std::nullopt;
  AmpOptions options;
  with_keys(config, {{"AmpOptions.precision", "TREADLE.SOLVER.AMP_PRECISION"}},
            [&] { options.precision = amp_precision_from_string(config.get_string("TREADLE.SOLVER.AMP_PRECISION")); });
  return options;
}

}  // namespace treadle

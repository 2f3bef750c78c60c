// What the config says to the hooks, and what it must not ask for.
#include <defaults/validate_as.hpp>
#include <treadle/base/errors.hpp>
#include <treadle/defaults/options.hpp>
#include <treadle/engine/trainer_base.hpp>

#include <fmt/format.h>

namespace treadle {
namespace {

hooks::MetricMode metric_mode(const Config& config, const std::string& key) {
  try {
    return hooks::metric_mode_from_string(config.get_string(key));
  } catch (const ConfigError& error) {
    config.fail(key, error.what());
  }
}

}  // namespace

hooks::PeriodicCheckpointerOptions periodic_checkpointer_options(const Config& config) {
  hooks::PeriodicCheckpointerOptions options;
  options.period = config.get_int("SOLVER.CHECKPOINT_PERIOD");
  if (options.period < 1) config.fail("SOLVER.CHECKPOINT_PERIOD", "at least 1 is needed");
  const std::int64_t keep = config.get_int("TREADLE.CHECKPOINT.MAX_TO_KEEP");
  if (keep < 0) config.fail("TREADLE.CHECKPOINT.MAX_TO_KEEP", "at least 0 is needed (0 keeps all)");
  if (keep > 0) options.max_to_keep = keep;
  options.async = config.get_bool("TREADLE.CHECKPOINT.ASYNC");
  return options;
}

hooks::EvalHookOptions eval_hook_options(const Config& config) {
  hooks::EvalHookOptions options;
  options.period = config.get_int("TEST.EVAL_PERIOD");
  if (options.period < 0) config.fail("TEST.EVAL_PERIOD", "at least 0 is needed (0: only at the end)");
  return options;
}

std::optional<hooks::PreciseBNOptions> precise_bn_options(const Config& config) {
  if (!config.get_bool("TEST.PRECISE_BN.ENABLED")) return std::nullopt;
  hooks::PreciseBNOptions options;
  options.period = eval_hook_options(config).period;
  options.num_iter = config.get_int("TEST.PRECISE_BN.NUM_ITER");
  if (options.num_iter < 1) config.fail("TEST.PRECISE_BN.NUM_ITER", "at least 1 is needed");
  return options;
}

std::optional<EmaOptions> ema_options(const Config& config) {
  if (!config.get_bool("TREADLE.EMA.ENABLED")) return std::nullopt;
  EmaOptions options;
  options.decay = config.get_double("TREADLE.EMA.DECAY");
  options.warmup = config.get_bool("TREADLE.EMA.WARMUP");
  options.period = config.get_int("TREADLE.EMA.PERIOD");
  with_keys(config, {{"EmaOptions.decay", "TREADLE.EMA.DECAY"}, {"EmaOptions.period", "TREADLE.EMA.PERIOD"}},
            [&] { validate(options); });
  return options;
}

std::optional<hooks::BestCheckpointerOptions> best_checkpointer_options(const Config& config) {
  hooks::BestCheckpointerOptions options;
  options.metric = config.get_string("TREADLE.BEST_CHECKPOINT.METRIC");
  if (options.metric.empty()) return std::nullopt;
  if (config.get_strings("DATASETS.TEST").empty()) {
    config.fail("TREADLE.BEST_CHECKPOINT.METRIC", "nothing is evaluated, since DATASETS.TEST is empty");
  }
  options.mode = metric_mode(config, "TREADLE.BEST_CHECKPOINT.MODE");
  options.period = eval_hook_options(config).period;
  return options;
}

std::optional<hooks::EarlyStoppingOptions> early_stopping_options(const Config& config) {
  hooks::EarlyStoppingOptions options;
  options.metric = config.get_string("TREADLE.EARLY_STOPPING.METRIC");
  if (options.metric.empty()) return std::nullopt;
  options.mode = metric_mode(config, "TREADLE.EARLY_STOPPING.MODE");
  options.patience = config.get_int("TREADLE.EARLY_STOPPING.PATIENCE");
  options.min_delta = config.get_double("TREADLE.EARLY_STOPPING.MIN_DELTA");
  with_keys(config,
            {{"EarlyStoppingOptions.patience", "TREADLE.EARLY_STOPPING.PATIENCE"},
             {"EarlyStoppingOptions.min_delta", "TREADLE.EARLY_STOPPING.MIN_DELTA"}},
            [&] { hooks::validate(options); });
  return options;
}

std::optional<hooks::TorchProfilerOptions> torch_profiler_options(const Config& config) {
  const std::int64_t start = config.get_int("TREADLE.PROFILER.START");
  if (start < 0) return std::nullopt;
  hooks::TorchProfilerOptions options;
  options.output_dir = config.get_string("OUTPUT_DIR");
  options.active = config.get_int("TREADLE.PROFILER.STEPS");
  options.enable = [start, end = start + options.active](const TrainerBase& trainer) {
    return trainer.iter() >= start && trainer.iter() < end;
  };
  with_keys(config, {{"TorchProfilerOptions.active", "TREADLE.PROFILER.STEPS"}}, [&] { hooks::validate(options); });
  return options;
}

std::optional<hooks::TorchMemoryStatsOptions> torch_memory_stats_options(const Config& config) {
  hooks::TorchMemoryStatsOptions options;
  options.period = config.get_int("TREADLE.MEMORY_STATS.PERIOD");
  if (options.period == 0) return std::nullopt;
  with_keys(config, {{"TorchMemoryStatsOptions.period", "TREADLE.MEMORY_STATS.PERIOD"}}, [&] { hooks::validate(options); });
  return options;
}

void refuse_unsupported(const Config& config) {
  if (config.get_bool("TEST.AUG.ENABLED")) config.fail("TEST.AUG.ENABLED", "this version does not have it; set it to False");
  if (config.get_int("VIS_PERIOD") != 0) config.fail("VIS_PERIOD", "this version draws no training data; set it to 0");
}

}  // namespace treadle

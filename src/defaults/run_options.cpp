// What the config says to the hooks, and what it must not ask for.
#include <treadle/defaults/options.hpp>

#include <fmt/format.h>

namespace treadle {

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

void refuse_unsupported(const Config& config) {
  for (const char* key : {"TEST.PRECISE_BN.ENABLED", "TEST.AUG.ENABLED", "INPUT.CROP.ENABLED"}) {
    if (config.get_bool(key)) config.fail(key, "this version does not have it; set it to False");
  }
  if (config.get_int("SOLVER.REFERENCE_WORLD_SIZE") != 0) {
    config.fail("SOLVER.REFERENCE_WORLD_SIZE", "this version does not scale by the number of processes; set it to 0");
  }
  if (config.get_int("VIS_PERIOD") != 0) config.fail("VIS_PERIOD", "this version draws no training data; set it to 0");
  if (!config.get_string("FLOAT32_PRECISION").empty())
    config.fail("FLOAT32_PRECISION", "this version does not set it; leave it empty");
  if (const Value& expected = config.at("TEST.EXPECTED_RESULTS"); expected.is(Value::Type::list) && !expected.as_list().empty()) {
    config.fail("TEST.EXPECTED_RESULTS", "this version does not compare results; leave it empty");
  }
  if (config.get_string("DATALOADER.SAMPLER_TRAIN") != "TrainingSampler") {
    config.fail("DATALOADER.SAMPLER_TRAIN", "this version has \"TrainingSampler\" only");
  }
}

}  // namespace treadle

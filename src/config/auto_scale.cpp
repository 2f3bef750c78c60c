#include <treadle/config/auto_scale.hpp>

#include <treadle/base/errors.hpp>
#include <treadle/base/log.hpp>

#include <fmt/format.h>

#include <cmath>

namespace treadle {

Config auto_scale_workers(const Config& config, int workers) {
  const std::int64_t reference = config.get_int("SOLVER.REFERENCE_WORLD_SIZE");
  if (workers <= 0) throw ConfigError(fmt::format("cannot scale a config to {} workers; at least 1 is needed", workers));
  if (reference == 0 || reference == workers) return config;
  const std::int64_t batch = config.get_int("SOLVER.IMS_PER_BATCH");
  if (batch % reference != 0)
    config.fail("SOLVER.REFERENCE_WORLD_SIZE", fmt::format("does not divide SOLVER.IMS_PER_BATCH, {}", batch));

  // nearbyint rounds half to even, as Python's round
  const double scale = static_cast<double>(workers) / static_cast<double>(reference);
  const auto divided = [&](std::int64_t count) {
    return static_cast<std::int64_t>(std::nearbyint(static_cast<double>(count) / scale));
  };
  Config result = config.clone();
  result.set("SOLVER.IMS_PER_BATCH", static_cast<std::int64_t>(std::nearbyint(static_cast<double>(batch) * scale)));
  result.set("SOLVER.BASE_LR", config.get_double("SOLVER.BASE_LR") * scale);
  for (const char* key : {"SOLVER.MAX_ITER", "SOLVER.WARMUP_ITERS", "TEST.EVAL_PERIOD", "SOLVER.CHECKPOINT_PERIOD"}) {
    result.set(key, divided(config.get_int(key)));
  }
  Tuple steps;
  for (const std::int64_t step : config.get_ints("SOLVER.STEPS")) steps.push_back(divided(step));
  result.set("SOLVER.STEPS", std::move(steps));
  result.set("SOLVER.REFERENCE_WORLD_SIZE", workers);
  log_info(fmt::format("scaled the config from {} to {} workers: batch {}, learning rate {}, {} iterations, {} of warm-up",
                       reference, workers, result.get_int("SOLVER.IMS_PER_BATCH"), result.get_double("SOLVER.BASE_LR"),
                       result.get_int("SOLVER.MAX_ITER"), result.get_int("SOLVER.WARMUP_ITERS")));
  if (config.frozen()) result.freeze();
  return result;
}

}  // namespace treadle

#pragma once

#include <treadle/config/config.hpp>

namespace treadle {

/// The same recipe for another number of workers, with the batch per worker kept. With `SOLVER.REFERENCE_WORLD_SIZE` r, not 0 and
/// not `workers`, and s = workers / r: IMS_PER_BATCH and BASE_LR times s; MAX_ITER, WARMUP_ITERS, STEPS, CHECKPOINT_PERIOD and
/// TEST.EVAL_PERIOD divided by s; products rounded half to even; r becomes `workers`. Otherwise a copy of `config`. The result is
/// frozen when `config` is. ConfigError when `workers` is not positive or r does not divide IMS_PER_BATCH.
Config auto_scale_workers(const Config& config, int workers);

}  // namespace treadle

#pragma once

/// Everything of the room `solver`. The headers of the optimizers include LibTorch's; programs that only build by name and step
/// do better with `solver/build.hpp`, `solver/lr_scheduler.hpp` and `solver/optimizer_state.hpp`.
#include <treadle/solver/adamw.hpp>
#include <treadle/solver/build.hpp>
#include <treadle/solver/clipping.hpp>
#include <treadle/solver/ema.hpp>
#include <treadle/solver/grad_scaler.hpp>
#include <treadle/solver/group_info.hpp>
#include <treadle/solver/legacy_lr_scheduler.hpp>
#include <treadle/solver/lr_scheduler.hpp>
#include <treadle/solver/optimizer_state.hpp>
#include <treadle/solver/param_groups.hpp>
#include <treadle/solver/param_scheduler.hpp>
#include <treadle/solver/sgd.hpp>
#include <treadle/solver/with_gradient_clipping.hpp>

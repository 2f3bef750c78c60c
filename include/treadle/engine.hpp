#pragma once

/// Everything of the room `engine`.
#include <treadle/engine/amp_trainer.hpp>
#include <treadle/engine/distributed_model.hpp>
#include <treadle/engine/hook_base.hpp>
#include <treadle/engine/phase.hpp>
#include <treadle/engine/run_record.hpp>
#include <treadle/engine/simple_trainer.hpp>
#include <treadle/engine/step_exchange.hpp>
#include <treadle/engine/trainer_base.hpp>

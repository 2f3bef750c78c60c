#pragma once

/// Everything of the room `defaults`.
#include <treadle/defaults/default_argument_parser.hpp>
#include <treadle/defaults/default_predictor.hpp>
#include <treadle/defaults/default_setup.hpp>
#include <treadle/defaults/default_trainer.hpp>
#include <treadle/defaults/options.hpp>

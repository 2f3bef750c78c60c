#pragma once

/// Everything of the room `evaluation`.
#include <treadle/evaluation/classification_evaluator.hpp>
#include <treadle/evaluation/evaluator.hpp>
#include <treadle/evaluation/evaluator_registry.hpp>
#include <treadle/evaluation/inference.hpp>
#include <treadle/evaluation/loss_evaluator.hpp>
#include <treadle/evaluation/regression_evaluator.hpp>
#include <treadle/evaluation/results.hpp>

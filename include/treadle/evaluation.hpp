#pragma once

/// Everything of the room `evaluation`.
#include <treadle/evaluation/classification_evaluator.hpp>
#include <treadle/evaluation/evaluator.hpp>
#include <treadle/evaluation/inference.hpp>
#include <treadle/evaluation/results.hpp>

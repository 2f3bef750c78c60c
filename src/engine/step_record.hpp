#pragma once

#include "engine/loss_reader.hpp"

#include <treadle/engine/simple_trainer.hpp>

#include <cstdint>
#include <vector>

namespace treadle {

/// What there is to say about one step.
struct SimpleTrainer::StepRecord {
  std::int64_t iteration = -1;  ///< -1: nothing
  LossReader losses{};
  double data_time = 0;             ///< seconds this rank waited for its batches
  std::vector<std::int64_t> ids{};  ///< of the samples
};

}  // namespace treadle

#pragma once

#include <ATen/core/Tensor.h>

#include <string>
#include <utility>
#include <vector>

namespace treadle {

/// The losses of one step by name, each a scalar tensor; their sum is what is minimized.
using LossDict = std::vector<std::pair<std::string, at::Tensor>>;

}  // namespace treadle

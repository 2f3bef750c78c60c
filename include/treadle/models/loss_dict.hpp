#pragma once

#include <ATen/core/Tensor.h>
#include <c10/util/SmallVector.h>

#include <string>
#include <utility>

namespace treadle {

/// The losses of one step by name, each a scalar tensor; their sum is what is minimized. Up to four take no memory of their own.
using LossDict = c10::SmallVector<std::pair<std::string, at::Tensor>, 4>;

}  // namespace treadle

#pragma once

#include <ATen/core/Tensor.h>

#include <string>

namespace treadle {

/// Why LibTorch would not copy `source` into `target`, which has the same sizes; empty when it would. Changes neither.
std::string obstacle_to_copy(const at::Tensor& target, const at::Tensor& source);

}  // namespace treadle

#pragma once

#include <ATen/core/Tensor.h>

#include <vector>

namespace treadle {

/// Multiplies the gradient of every parameter that has one by `factor`, in place; nothing to do for 1.
void scale_grads(const std::vector<at::Tensor>& params, double factor);

/// The same for the gradients themselves.
void scale_tensors(const std::vector<at::Tensor>& tensors, double factor);

}  // namespace treadle

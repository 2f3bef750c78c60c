#pragma once

#include <ATen/core/Tensor.h>
#include <torch/optim/optimizer.h>

#include <memory>

namespace treadle {

/// The states of all parameters as LibTorch's optimizers hold them, by the TensorImpl of the parameter.
using States = ska::flat_hash_map<void*, std::unique_ptr<torch::optim::OptimizerParamState>>;

/// An uninitialized tensor in the layout of `like`, for optimizer state.
at::Tensor empty_state_like(const at::Tensor& like);

}  // namespace treadle

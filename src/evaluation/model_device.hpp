#pragma once

#include <treadle/base/module_state.hpp>

#include <ATen/core/Tensor.h>
#include <c10/core/Device.h>

namespace treadle {

/// Where the inputs of a model belong.
inline c10::Device device_of(const torch::nn::Module& model) {
  const auto parameters = named_parameters(model);
  return parameters.empty() ? c10::Device(c10::kCPU) : parameters.front().tensor.device();
}

}  // namespace treadle

#pragma once

#include <ATen/core/Tensor.h>

namespace treadle {

/// An uninitialized tensor in the layout of `like`, for optimizer state.
at::Tensor empty_state_like(const at::Tensor& like);

}  // namespace treadle

#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>

namespace treadle {

/// Throws FormatError: `image` [N, C, H, W] does not have the size that a network was built for.
[[noreturn]] void throw_wrong_size(const at::Tensor& image, std::int64_t expected);

}  // namespace treadle

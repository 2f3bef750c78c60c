#include "base/tensor_copy.hpp"

#include <ATen/ops/empty_like.h>
#include <c10/core/GradMode.h>
#include <c10/util/Exception.h>

namespace treadle {

std::string obstacle_to_copy(const at::Tensor& target, const at::Tensor& source) {
  const auto is_plain = [](const at::Tensor& tensor) { return tensor.layout() == c10::kStrided && !tensor.is_quantized(); };
  if (is_plain(target) && is_plain(source)) return {};
  const at::NoGradGuard no_grad;
  try {
    at::empty_like(target).copy_(source);  // what is sparse or quantized goes by rules of LibTorch's own
    return {};
  } catch (const c10::Error& error) {
    return error.what_without_backtrace();
  }
}

}  // namespace treadle

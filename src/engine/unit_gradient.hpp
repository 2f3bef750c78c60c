#pragma once

#include <ATen/core/Tensor.h>
#include <ATen/ops/ones_like.h>

#include <cstdint>

namespace treadle {

/// Differentiates losses, each a tensor of one element. The gradient of a loss by itself is a one, which LibTorch makes anew for
/// every backward pass; here it is kept from step to step.
class UnitGradient {
 public:
  /// `loss.backward()`.
  void backward(const at::Tensor& loss) {
    if (loss.numel() != 1 || loss.layout() != at::kStrided) return loss.backward();
    if (!fits(loss)) {
      one_ = at::ones_like(loss.detach());
      version_ = one_._version();
    }
    loss.backward(one_);
  }

 private:
  bool fits(const at::Tensor& loss) const {
    // Another version: somebody has written into it, say a hook that was set on the loss.
    return one_.defined() && one_._version() == version_ && one_.scalar_type() == loss.scalar_type() &&
           one_.device() == loss.device() && one_.sizes() == loss.sizes();
  }

  at::Tensor one_;
  std::int64_t version_ = 0;
};

}  // namespace treadle

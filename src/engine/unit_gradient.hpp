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
    if (!fits(loss)) {
      if (loss.numel() != 1 || loss.layout() != at::kStrided) return loss.backward();
      one_ = at::ones_like(loss.detach());
      keys_ = loss.key_set();
      version_ = version();
    }
    loss.backward(one_);
  }

 private:
  std::uint32_t version() const { return one_.unsafeGetTensorImpl()->version_counter().current_version(); }

  bool fits(const at::Tensor& loss) const {
    // Equal keys: the same kind of tensor on the same kind of device. Another version: somebody has written into it, say a hook
    // that was set on the loss.
    return one_.defined() && loss.key_set() == keys_ && loss.dtype() == one_.dtype() && loss.dim() == one_.dim() &&
           loss.numel() == 1 && loss.device() == one_.device() && version() == version_;
  }

  at::Tensor one_;
  c10::DispatchKeySet keys_;
  std::uint32_t version_ = 0;
};

}  // namespace treadle

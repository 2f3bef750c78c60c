#pragma once

#include "solver/tensor_kernels.hpp"
#include "solver/tensor_layout.hpp"

#include <treadle/solver/clipping.hpp>

#include <torch/optim/optimizer.h>

#include <optional>
#include <vector>

namespace treadle {

/// What an optimizer notes on the one walk over its parameters, so that clipping by the norm of all gradients needs no walk of
/// its own. Nothing is changed before `factor` has given its verdict.
class ClippingWalk {
 public:
  explicit ClippingWalk(const std::optional<GradientClippingOptions>& clip)
      : clip_(clip), may_leave_out_(clip_ && clip_->non_finite != NonFiniteNorm::pass) {}

  /// Each gradient, in the order of the parameters.
  void meet(const at::Tensor& grad) {
    if (!clip_) return;
    if (kernel_can_sum(grad)) {
      grads_.push_back({static_cast<float*>(grad.unsafeGetTensorImpl()->mutable_data()), grad.numel()});
    } else {
      kernel_takes_all_ = false;
    }
  }

  /// Marks a parameter that the step is going to write, at once (it is in the cache now) unless the step may be left out.
  void will_write(const at::Tensor& param) {
    if (may_leave_out_) {
      unmarked_.push_back(&param);
    } else {
      mark_written(param);
    }
  }

  /// What the gradients are to be multiplied by; nothing when the step must be left out. `norm` becomes that of all gradients,
  /// and stays what it is without clipping. Throws as `norm_allows_step`.
  std::optional<double> factor(const std::vector<torch::optim::OptimizerParamGroup>& groups, std::optional<at::Tensor>& norm);

 private:
  at::Tensor norm_of_all(const std::vector<torch::optim::OptimizerParamGroup>& groups) const;

  std::optional<GradientClippingOptions> clip_;
  bool may_leave_out_;
  bool kernel_takes_all_ = true;
  std::vector<NumberRange<float>> grads_;
  std::vector<const at::Tensor*> unmarked_;
};

}  // namespace treadle

#pragma once

#include <ATen/core/Tensor.h>

#include <functional>
#include <optional>
#include <string_view>
#include <utility>
#include <vector>

namespace treadle {

enum class ClipType {
  value,      ///< every number into [-clip_value, clip_value]
  norm,       ///< the gradient of each parameter on its own, as in Detectron2
  full_model  ///< all gradients as one vector
};
/// "value", "norm" or "full_model"; throws ConfigError otherwise.
ClipType clip_type_from_string(std::string_view text);

/// What becomes of a norm that is infinite or NaN.
enum class NonFiniteNorm {
  pass,   ///< nothing: the factor is 0 or NaN, as in Python
  error,  ///< Error, before anything is changed
  skip    ///< gradients stay as they are, and WithGradientClipping leaves the step out
};

struct GradientClippingOptions {
  bool enabled = false;
  ClipType type = ClipType::value;
  double clip_value = 1.0;  ///< >= 0, finite
  double norm_type = 2.0;   ///< p of the norm: any number, infinity for the largest magnitude
  NonFiniteNorm non_finite = NonFiniteNorm::pass;
};
/// Throws ConfigError that names the field and its legal range.
void validate(const GradientClippingOptions& options);

/// The p-norm of all defined gradients taken as one vector, with the bits of `torch.nn.utils.get_total_norm` on the CPU: a scalar
/// tensor on the device of the first, 0 when there is none.
at::Tensor total_norm(const std::vector<at::Tensor>& grads, double norm_type = 2.0);
/// The same for the gradients of `params`; parameters without one are passed over.
at::Tensor total_grad_norm(const std::vector<at::Tensor>& params, double norm_type = 2.0);

/// min(1, max_norm / (norm + 1e-6)), in the order and precision of Python: a reciprocal and a product in the dtype of `norm`; a
/// NaN stays.
double clip_factor(double max_norm, const at::Tensor& norm);

/// Multiplies every gradient by `clip_factor(max_norm, norm)`, in place.
void clip_grads_with_norm(const std::vector<at::Tensor>& grads, double max_norm, const at::Tensor& norm);

/// Whether a step may be made with gradients of this norm: true unless it is not finite and the policy is `skip`; throws Error
/// for `error`.
bool norm_allows_step(const at::Tensor& norm, NonFiniteNorm policy);

/// Clips the gradients of `params` in place; parameters without one are passed over. Returns the norm that was clipped, the
/// largest one with ClipType::norm, nothing with ClipType::value.
using GradientClipper = std::function<std::optional<at::Tensor>(const std::vector<at::Tensor>& params)>;

/// A base of optimizers that clip in their `step`; who gets a `torch::optim::Optimizer&` may look for it. Loop thread only.
class ClippingOptimizer {
 public:
  virtual ~ClippingOptimizer() = default;
  /// The norm that the last step clipped, on the device of the gradients; nothing before the first step, when that step threw,
  /// and when clipping by value.
  virtual const std::optional<at::Tensor>& last_norm() const noexcept = 0;
};

/// A base of an optimizer that clips by the norm of all gradients in its own `step`: one walk over the parameters serves the norm
/// and the step, and gradients are multiplied in the pass that reads them anyway. `Optimizer` is the class whose `step` that is:
/// a class derived from it with another `step` is no such optimizer. Loop thread only.
template <class Optimizer>
class ClipsInStep {
 public:
  virtual ~ClipsInStep() = default;

  /// Has the next `step` clip in place by the norm of all gradients, whatever `clip.type` says. It changes nothing when
  /// `norm_allows_step` forbids it.
  void clip_next_step(const GradientClippingOptions& clip) { clip_ = clip; }
  /// The norm that the last step clipped; nothing when it was not asked to, or threw before it knew.
  std::optional<at::Tensor> take_norm() { return std::exchange(norm_, std::nullopt); }

 protected:
  /// For the beginning of a step.
  std::optional<GradientClippingOptions> take_clipping() {
    norm_.reset();
    return std::exchange(clip_, std::nullopt);
  }
  std::optional<at::Tensor> norm_;

 private:
  friend Optimizer;
  ClipsInStep() = default;
  ClipsInStep(const ClipsInStep&) = default;
  ClipsInStep& operator=(const ClipsInStep&) = default;

  std::optional<GradientClippingOptions> clip_;
};

/// Throws ConfigError for options out of range; `enabled` is not looked at.
GradientClipper create_gradient_clipper(const GradientClippingOptions& options);

}  // namespace treadle

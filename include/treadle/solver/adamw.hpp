#pragma once

#include <treadle/solver/clipping.hpp>
#include <treadle/solver/group_info.hpp>
#include <treadle/solver/param_groups.hpp>

#include <torch/optim/adam.h>
#include <torch/optim/adamw.h>

#include <vector>

namespace treadle {

struct AdamOptions {
  double lr = 0.001;          ///< >= 0, finite; like the rest up to `amsgrad` the default for groups that do not say
  double beta1 = 0.9;         ///< in [0, 1)
  double beta2 = 0.999;       ///< in [0, 1)
  double eps = 1e-8;          ///< >= 0
  double weight_decay = 0.0;  ///< >= 0; decoupled in AdamW, added to the gradient in Adam
  bool amsgrad = false;
  bool maximize = false;  ///< go up the gradient
  bool fused = false;     ///< ATen's fused kernel: equals Python's `fused=True` instead of Python's default
};
/// Throws ConfigError that names the field ("AdamOptions.beta1") and its legal range.
void validate(const AdamOptions& options);

/// AdamW (Loshchilov and Hutter, 2019), a `torch::optim::AdamW` in every other respect. Loop thread only.
///
/// `step()` gives, bit by bit, what `torch.optim.AdamW` in Python gives by default, in two passes over memory: in float or
/// double,
///     p *= 1 - lr weight_decay;  m = lerp(m, g, 1 - beta1);  v = fma((1 - beta2) g, g, beta2 v);
///     p += (-lr / (1 - beta1^t) m) / (sqrt(v) / sqrt(1 - beta2^t) + eps)
/// with scalars computed in double and rounded once, and ATen's square root, whose last bit depends on its vector library. A
/// parameter on another device, of another dtype, or whose gradient or state has other strides takes ATen's operations one by
/// one. Sparse gradients throw Error.
class AdamW : public torch::optim::AdamW, public GroupInfoHolder, public ClipsInStep<AdamW> {
 public:
  /// Throws ConfigError for options or groups that are not as described.
  AdamW(const std::vector<ParamGroup>& groups, const AdamOptions& options);
  AdamW(std::vector<at::Tensor> params, const AdamOptions& options);

  /// `closure`, when given, computes the loss anew, and its value is returned. Parameters without a gradient are passed over.
  at::Tensor step(LossClosure closure = nullptr) override;
};

/// Adam (Kingma and Ba, 2015): as AdamW, but weight decay is added to the gradient: g = fma(weight_decay, p, g).
class Adam : public torch::optim::Adam, public GroupInfoHolder, public ClipsInStep<Adam> {
 public:
  Adam(const std::vector<ParamGroup>& groups, const AdamOptions& options);
  Adam(std::vector<at::Tensor> params, const AdamOptions& options);
  at::Tensor step(LossClosure closure = nullptr) override;
};

}  // namespace treadle

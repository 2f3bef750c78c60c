#pragma once

#include <treadle/solver/clipping.hpp>
#include <treadle/solver/group_info.hpp>
#include <treadle/solver/param_groups.hpp>

#include <torch/optim/sgd.h>

#include <vector>

namespace treadle {

struct SgdOptions {
  double lr = 0.001;          ///< >= 0, finite; like the rest up to `nesterov` the default for groups that do not say
  double momentum = 0.0;      ///< in [0, 1]
  double dampening = 0.0;     ///< in [0, 1]; 0 with `nesterov`
  double weight_decay = 0.0;  ///< >= 0
  bool nesterov = false;      ///< needs a momentum
  bool maximize = false;      ///< go up the gradient
  bool fused = false;         ///< ATen's fused kernel: equals Python's `fused=True` instead of Python's default
};
/// Throws ConfigError that names the field ("SgdOptions.momentum") and its legal range.
void validate(const SgdOptions& options);

/// Stochastic gradient descent with momentum, a `torch::optim::SGD` in every other respect. Loop thread only.
///
/// `step()` gives, bit by bit, what `torch.optim.SGD` in Python gives by default, in one pass over memory: in float or double,
///     g = fma(weight_decay, p, g);  m = fma(1 - dampening, g, momentum m)  (m = g in the first step);
///     g = nesterov ? fma(momentum, m, g) : m;  p = fma(-lr, g, p)
/// with scalars computed in double and rounded once. A parameter on another device, of another dtype, sparse, or whose gradient
/// or momentum has other strides takes ATen's operations one by one, with the same result.
class Sgd : public torch::optim::SGD, public GroupInfoHolder, public ClipsInStep<Sgd> {
 public:
  /// Throws ConfigError for options or groups that are not as described.
  Sgd(const std::vector<ParamGroup>& groups, const SgdOptions& options);
  Sgd(std::vector<at::Tensor> params, const SgdOptions& options);

  /// `closure`, when given, computes the loss anew, and its value is returned. Parameters without a gradient are passed over.
  at::Tensor step(LossClosure closure = nullptr) override;

 private:
  void step_fused(torch::optim::OptimizerParamGroup& group);
};

}  // namespace treadle

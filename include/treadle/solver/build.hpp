#pragma once

#include <treadle/base/registry.hpp>
#include <treadle/solver/clipping.hpp>
#include <treadle/solver/param_groups.hpp>

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

namespace torch::optim {
class Optimizer;
}

namespace treadle {

/// What `build_optimizer` reads. The defaults are Detectron2's.
struct OptimizerOptions {
  std::string name = "SGD";  ///< SGD, ADAMW, ADAM, or a registered one
  double base_lr = 0.001;    ///< >= 0, finite
  double weight_decay = 0.0001;
  std::optional<double> weight_decay_norm = 0.0;  ///< for normalization layers; without a value as `weight_decay`
  std::optional<double> weight_decay_bias{};      ///< for parameters named "bias"; without a value as `weight_decay`
  double bias_lr_factor = 1.0;
  double momentum = 0.9;  ///< SGD
  bool nesterov = false;  ///< SGD
  double beta1 = 0.9;     ///< ADAM, ADAMW
  double beta2 = 0.999;
  double eps = 1e-8;
  bool amsgrad = false;
  bool fused = false;  ///< ATen's fused kernels: Python's `fused=True` instead of its default
  GradientClippingOptions clip{};
  /// More that decides over groups: `lr_factor_func`, `overrides`, `is_norm`. `base_lr`, `weight_decay_norm`, `weight_decay_bias`
  /// and `bias_lr_factor` are filled in from those above; its `weight_decay`, when it has a value, goes before the one above.
  ParamGroupOptions groups{};
};
/// Throws ConfigError that names the field ("OptimizerOptions.base_lr") and its legal range.
void validate(const OptimizerOptions& options);

/// An optimizer over the trainable parameters of `model`, grouped by `get_default_optimizer_params`, with clipping in its `step`
/// when `options.clip` asks for it. Throws ConfigError for an unknown name (with the nearest known), options out of range, no
/// parameters.
std::unique_ptr<torch::optim::Optimizer> build_optimizer(const OptimizerOptions& options, const torch::nn::Module& model);

/// Name → how to make it. Programs add their own, most simply with `register_optimizer` of `with_gradient_clipping.hpp`.
using OptimizerFactory =
    std::function<std::unique_ptr<torch::optim::Optimizer>(const std::vector<ParamGroup>&, const OptimizerOptions&)>;
Registry<OptimizerFactory>& optimizers();

}  // namespace treadle

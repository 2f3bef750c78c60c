#pragma once

#include <treadle/base/value.hpp>

#include <functional>
#include <optional>
#include <string>
#include <utility>
#include <vector>

namespace torch::nn {
class Module;
}

namespace treadle {

/// Parameters that an optimizer treats alike. A value; the tensors alias the model's.
struct ParamGroup {
  std::vector<at::Tensor> params;
  std::vector<std::string> names;  ///< full names, one for each of `params`; empty when not known
  Dict options;  ///< only what differs from the optimizer's defaults, by Python's names: "lr", "weight_decay", …
};

/// What `get_default_optimizer_params` reads. An option without a value leaves the optimizer's default in force.
struct ParamGroupOptions {
  std::optional<double> base_lr{};
  std::optional<double> weight_decay{};
  std::optional<double> weight_decay_norm{};  ///< for the parameters of normalization layers
  double bias_lr_factor = 1.0;                ///< for parameters named "bias"; other than 1 needs `base_lr`
  std::optional<double> weight_decay_bias{};
  /// Full name → factor on the learning rate; needs `base_lr`. A parameter of the root module comes as ".weight".
  std::function<double(const std::string& name)> lr_factor_func{};
  /// A parameter's own name ("bias", "pos_embed") → options for it, which win over everything above.
  std::vector<std::pair<std::string, Dict>> overrides{};
  /// Further modules that count as normalization layers, besides BatchNorm, InstanceNorm (1–3d), GroupNorm, LayerNorm and
  /// LocalResponseNorm of LibTorch and what derives from them.
  std::function<bool(const torch::nn::Module&)> is_norm{};
};
/// Throws ConfigError naming the field: a rate or decay that is negative or not finite, an option that lacks the `base_lr` it
/// needs, overrides of "bias" together with a bias option.
void validate(const ParamGroupOptions& options);

/// The trainable parameters of `model` in as few groups as the options allow, by Detectron2's rules: modules in the order of
/// `named_modules`, frozen parameters left out, shared ones under their first name. Note that an override of "bias" (the bias
/// options are one) also takes the biases of normalization layers, and replaces what `lr_factor_func` gave.
std::vector<ParamGroup> get_default_optimizer_params(const torch::nn::Module& model, const ParamGroupOptions& options = {});

/// One group per parameter, in the order of first occurrence; options of a later group are put over those of earlier ones.
std::vector<ParamGroup> expand_param_groups(const std::vector<ParamGroup>& groups);

/// The same parameters in as few groups as possible: those whose options are equal, in equal order of keys, come together.
/// Numbers compare by value (1, 1.0 and true are equal). Throws ConfigError for an option that is a List, a Dict or a tensor.
std::vector<ParamGroup> reduce_param_groups(const std::vector<ParamGroup>& groups);

/// Throws ConfigError naming the parameter: no parameter at all, an empty group, one that is undefined, not a leaf, or occurs
/// twice, names that do not match the parameters in number.
void validate(const std::vector<ParamGroup>& groups);

}  // namespace treadle

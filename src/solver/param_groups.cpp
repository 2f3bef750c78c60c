#include <treadle/base/errors.hpp>
#include <treadle/solver/param_groups.hpp>

#include <fmt/format.h>
#include <torch/nn/modules/batchnorm.h>
#include <torch/nn/modules/instancenorm.h>
#include <torch/nn/modules/normalization.h>

#include <cmath>
#include <unordered_map>
#include <unordered_set>

namespace treadle {
namespace {

void require(bool legal, const char* field, const char* range, double found) {
  if (!legal) {
    throw ConfigError(fmt::format("ParamGroupOptions.{} must be {}; it is {}", field, range, found),
                      std::string("ParamGroupOptions.") + field);
  }
}

void require_rate(const std::optional<double>& value, const char* field) {
  if (value) require(*value >= 0 && std::isfinite(*value), field, "finite and at least 0", *value);
}

bool is_norm_module(const torch::nn::Module& module) {
  using namespace torch::nn;
  auto is_any = [&]<class... Impl>(std::type_identity<Impl>...) {
    return (... || (dynamic_cast<const Impl*>(&module) != nullptr));
  };
  return is_any(
      std::type_identity<BatchNorm1dImpl>{}, std::type_identity<BatchNorm2dImpl>{}, std::type_identity<BatchNorm3dImpl>{},
      std::type_identity<GroupNormImpl>{}, std::type_identity<InstanceNorm1dImpl>{}, std::type_identity<InstanceNorm2dImpl>{},
      std::type_identity<InstanceNorm3dImpl>{}, std::type_identity<LayerNormImpl>{}, std::type_identity<LocalResponseNormImpl>{});
}

/// The overrides with the bias options as one of them, and the place of each by parameter name.
std::vector<std::pair<std::string, Dict>> all_overrides(const ParamGroupOptions& options) {
  std::vector<std::pair<std::string, Dict>> overrides = options.overrides;
  Dict bias;
  if (options.bias_lr_factor != 1.0) bias.set("lr", *options.base_lr * options.bias_lr_factor);
  if (options.weight_decay_bias) bias.set("weight_decay", *options.weight_decay_bias);
  if (!bias.empty()) overrides.emplace_back("bias", std::move(bias));
  return overrides;
}

Dict options_of(const ParamGroupOptions& options, const torch::nn::Module& module, const std::string& module_name,
                const std::string& param_name, const std::vector<std::pair<std::string, Dict>>& overrides) {
  Dict result;
  if (options.base_lr) result.set("lr", *options.base_lr);
  if (options.weight_decay) result.set("weight_decay", *options.weight_decay);
  if (options.weight_decay_norm && (is_norm_module(module) || (options.is_norm && options.is_norm(module)))) {
    result.set("weight_decay", *options.weight_decay_norm);
  }
  if (options.lr_factor_func) result.set("lr", *options.base_lr * options.lr_factor_func(module_name + "." + param_name));
  for (const auto& [name, values] : overrides) {
    if (name != param_name) continue;
    for (const auto& [key, value] : values) result.set(key, value);
  }
  return result;
}

}  // namespace

void validate(const ParamGroupOptions& options) {
  require_rate(options.base_lr, "base_lr");
  require_rate(options.weight_decay, "weight_decay");
  require_rate(options.weight_decay_norm, "weight_decay_norm");
  require_rate(options.weight_decay_bias, "weight_decay_bias");
  require_rate(options.bias_lr_factor, "bias_lr_factor");
  if (options.bias_lr_factor != 1.0 && !options.base_lr) {
    throw ConfigError("ParamGroupOptions.bias_lr_factor needs base_lr", "ParamGroupOptions.base_lr");
  }
  if (options.lr_factor_func && !options.base_lr) {
    throw ConfigError("ParamGroupOptions.lr_factor_func needs base_lr", "ParamGroupOptions.base_lr");
  }
  bool bias_options = options.bias_lr_factor != 1.0 || options.weight_decay_bias;
  for (const auto& [name, values] : options.overrides) {
    if (values.contains("params") || values.contains("param_names")) {
      throw ConfigError(
          fmt::format(
              "ParamGroupOptions.overrides: the entry for \"{}\" sets which parameters are in a group, which is no option", name),
          "ParamGroupOptions.overrides");
    }
    if (bias_options && name == "bias") {
      throw ConfigError(
          "ParamGroupOptions.overrides has an entry for \"bias\", which bias_lr_factor and weight_decay_bias set too",
          "ParamGroupOptions.overrides");
    }
  }
}

std::vector<ParamGroup> get_default_optimizer_params(const torch::nn::Module& model, const ParamGroupOptions& options) {
  validate(options);
  auto overrides = all_overrides(options);
  std::vector<ParamGroup> groups;
  std::unordered_set<const void*> seen;
  auto visit = [&](const std::string& module_name, const torch::nn::Module& module) {
    for (const auto& item : module.named_parameters(/*recurse=*/false)) {
      const at::Tensor& param = item.value();
      if (!param.requires_grad() || !seen.insert(param.unsafeGetTensorImpl()).second) continue;
      std::string full_name = module_name.empty() ? item.key() : module_name + "." + item.key();
      groups.push_back({{param}, {std::move(full_name)}, options_of(options, module, module_name, item.key(), overrides)});
    }
  };
  visit("", model);
  for (const auto& item : model.named_modules("", /*include_self=*/false)) visit(item.key(), *item.value());
  return reduce_param_groups(groups);
}

std::vector<ParamGroup> expand_param_groups(const std::vector<ParamGroup>& groups) {
  std::vector<ParamGroup> expanded;
  std::unordered_map<const void*, std::size_t> places;
  for (const ParamGroup& group : groups) {
    for (std::size_t i = 0; i < group.params.size(); ++i) {
      auto [place, added] = places.try_emplace(group.params[i].unsafeGetTensorImpl(), expanded.size());
      if (added) expanded.push_back({{group.params[i]}, {}, {}});
      ParamGroup& single = expanded[place->second];
      if (i < group.names.size()) single.names = {group.names[i]};
      for (const auto& [key, value] : group.options) single.options.set(key, value);
    }
  }
  return expanded;
}

namespace {

bool is_number(const Value& value) {
  return value.is(Value::Type::integer) || value.is(Value::Type::real) || value.is(Value::Type::boolean);
}
double number(const Value& value) { return value.is(Value::Type::boolean) ? value.as_bool() : value.as_double(); }

/// Equality as Python has it among hashable values.
bool equal_options(const Value& a, const Value& b) {
  if (is_number(a) && is_number(b)) {
    if (a.is(Value::Type::integer) && b.is(Value::Type::integer)) return a.as_int() == b.as_int();
    return number(a) == number(b);
  }
  if (a.type() != b.type()) return false;
  if (!a.is(Value::Type::tuple)) return identical(a, b);
  const Tuple& left = a.as_tuple();
  const Tuple& right = b.as_tuple();
  return std::equal(left.begin(), left.end(), right.begin(), right.end(), equal_options);
}

bool equal_options(const Dict& a, const Dict& b) {
  return std::equal(a.begin(), a.end(), b.begin(), b.end(),
                    [](const Dict::Entry& x, const Dict::Entry& y) { return x.key == y.key && equal_options(x.value, y.value); });
}

void require_comparable(const Key& key, const Value& value) {
  if (value.is(Value::Type::list) || value.is(Value::Type::dict) || value.is(Value::Type::tensor)) {
    throw ConfigError(
        fmt::format("the option \"{}\" of a parameter group is a {}: groups can be compared only by numbers, text and tuples",
                    key.to_string(), to_string(value.type())),
        key.to_string());
  }
  if (value.is(Value::Type::tuple)) {
    for (const Value& element : value.as_tuple()) require_comparable(key, element);
  }
}

}  // namespace

std::vector<ParamGroup> reduce_param_groups(const std::vector<ParamGroup>& groups) {
  std::vector<ParamGroup> reduced;
  for (ParamGroup& single : expand_param_groups(groups)) {
    for (const auto& [key, value] : single.options) require_comparable(key, value);
    auto same = std::find_if(reduced.begin(), reduced.end(),
                             [&](const ParamGroup& group) { return equal_options(group.options, single.options); });
    if (same == reduced.end()) {
      reduced.push_back(std::move(single));
      continue;
    }
    same->params.push_back(single.params[0]);
    if (same->names.empty()) continue;
    if (single.names.empty()) {
      throw ConfigError(
          fmt::format("a parameter without a name has the options of a group of named ones (\"{}\", …): name all or none",
                      same->names[0]),
          "names");
    }
    same->names.push_back(single.names[0]);
  }
  return reduced;
}

void validate(const std::vector<ParamGroup>& groups) {
  std::unordered_map<const void*, std::string> seen;
  if (groups.empty()) throw ConfigError("the optimizer got no parameters: is the whole model frozen?", "params");
  for (std::size_t g = 0; g < groups.size(); ++g) {
    const ParamGroup& group = groups[g];
    if (group.params.empty()) throw ConfigError(fmt::format("parameter group {} is empty", g), "params");
    if (!group.names.empty() && group.names.size() != group.params.size()) {
      throw ConfigError(
          fmt::format("parameter group {} has {} parameters and {} names", g, group.params.size(), group.names.size()), "params");
    }
    for (std::size_t i = 0; i < group.params.size(); ++i) {
      std::string label =
          group.names.empty() ? fmt::format("parameter {} of group {}", i, g) : fmt::format("parameter \"{}\"", group.names[i]);
      const at::Tensor& param = group.params[i];
      if (!param.defined()) throw ConfigError(label + " is an undefined tensor", "params");
      if (!param.is_leaf())
        throw ConfigError(label + " is computed from other tensors; an optimizer can change only leaves", "params");
      auto [place, added] = seen.emplace(param.unsafeGetTensorImpl(), label);
      if (!added)
        throw ConfigError(fmt::format("{} is the same tensor as {}; give it to the optimizer once", label, place->second),
                          "params");
    }
  }
}

}  // namespace treadle

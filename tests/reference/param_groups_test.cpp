#include <treadle/base/errors.hpp>
#include <treadle/solver/build.hpp>
#include <treadle/solver/optimizer_state.hpp>
#include <treadle/solver/param_groups.hpp>
#include <treadle/solver/sgd.hpp>
#include <treadle/solver/with_gradient_clipping.hpp>

#include <ATen/ops/ones.h>
#include <ATen/ops/zeros.h>
#include <gtest/gtest.h>
#include <torch/nn/modules/batchnorm.h>
#include <torch/nn/modules/instancenorm.h>
#include <torch/nn/modules/normalization.h>

#include <map>
#include <memory>

#include "tests/reference/numbers.hpp"
#include "tests/reference/run_cases.hpp"

namespace treadle {
namespace {

using Json = nlohmann::ordered_json;

/// A module of class `Base` with parameters of any name, in place of its own.
template <class Base>
struct Bare : Base {
  using Base::Base;
  void clear() { this->parameters_.clear(); }
};

std::shared_ptr<torch::nn::Module> make_module(const std::string& type, bool is_norm) {
  using namespace torch::nn;
  auto made = [](auto module) {
    module->clear();
    return module;
  };
  if (!is_norm) return std::make_shared<Module>();
  if (type.ends_with("BatchNorm1d")) return made(std::make_shared<Bare<BatchNorm1dImpl>>(2));
  if (type.ends_with("BatchNorm3d")) return made(std::make_shared<Bare<BatchNorm3dImpl>>(2));
  if (type.ends_with("GroupNorm")) return made(std::make_shared<Bare<GroupNormImpl>>(1, 2));
  if (type.ends_with("InstanceNorm1d")) return made(std::make_shared<Bare<InstanceNorm1dImpl>>(2));
  if (type.ends_with("InstanceNorm2d")) return made(std::make_shared<Bare<InstanceNorm2dImpl>>(2));
  if (type.ends_with("InstanceNorm3d")) return made(std::make_shared<Bare<InstanceNorm3dImpl>>(2));
  if (type.ends_with("LayerNorm")) return made(std::make_shared<Bare<LayerNormImpl>>(std::vector<std::int64_t>{2}));
  if (type.ends_with("LocalResponseNorm")) return std::make_shared<LocalResponseNormImpl>(2);
  // BatchNorm2d and what derives from it; LibTorch has no SyncBatchNorm of its own.
  return made(std::make_shared<Bare<BatchNorm2dImpl>>(2));
}

/// The model of a case. A parameter that occurs twice is one tensor.
std::shared_ptr<torch::nn::Module> make_model(const Json& modules) {
  std::map<std::string, std::shared_ptr<torch::nn::Module>> made;
  std::map<int, at::Tensor> params;
  for (const Json& description : modules) {
    auto path = description.at("path").get<std::string>();
    auto module = make_module(description.at("type").get<std::string>(), description.at("is_norm").get<bool>());
    made[path] = module;
    for (const Json& param : description.at("params")) {
      auto [place, added] = params.try_emplace(param[3].get<int>());
      if (added) place->second = at::zeros(param[1].get<std::vector<std::int64_t>>());
      module->register_parameter(param[0].get<std::string>(), place->second, param[2].get<bool>());
    }
    if (path.empty()) continue;
    auto dot = path.rfind('.');
    auto parent = made.at(dot == std::string::npos ? "" : path.substr(0, dot));
    parent->register_module(dot == std::string::npos ? path : path.substr(dot + 1), module);
  }
  return made.at("");
}

Value option(const Json& value) {
  if (value.is_object() && value.contains("tuple")) {
    Tuple tuple;
    for (const Json& element : value["tuple"]) tuple.push_back(option(element));
    return tuple;
  }
  if (value.is_array()) {
    List list;
    for (const Json& element : value) list.push_back(option(element));
    return list;
  }
  if (value.is_null()) return {};
  if (value.is_boolean()) return value.get<bool>();
  if (value.is_number_integer()) return value.get<std::int64_t>();
  if (value.is_string()) return value.get<std::string>();
  return reference_double(value);
}

/// Equal as Python compares: 1, 1.0 and True are; so are two NaNs here, for want of identity.
bool equal(const Value& found, const Json& wanted) {
  Value value = option(wanted);
  auto number = [](const Value& v) -> std::optional<double> {
    if (v.is(Value::Type::boolean)) return v.as_bool();
    if (v.is(Value::Type::integer) || v.is(Value::Type::real)) return v.as_double();
    return std::nullopt;
  };
  if (number(found) && number(value)) return same_number(*number(found), *number(value));
  return identical(found, value);
}

void expect_options(const Dict& found, const Json& wanted) {
  ASSERT_EQ(found.size(), wanted.size()) << describe(found) << " and " << wanted;
  std::size_t i = 0;
  for (const auto& [key, value] : found) {
    EXPECT_EQ(key.string(), wanted[i][0].get<std::string>());
    EXPECT_TRUE(equal(value, wanted[i][1])) << key.string() << ": " << describe(value) << ", not " << wanted[i][1];
    ++i;
  }
}

void expect_groups(const std::vector<ParamGroup>& found, const Json& wanted,
                   const std::function<std::vector<std::string>(const ParamGroup&)>& names) {
  ASSERT_EQ(found.size(), wanted.size());
  for (std::size_t g = 0; g < found.size(); ++g) {
    SCOPED_TRACE("group " + std::to_string(g));
    expect_options(found[g].options, wanted[g].at("options"));
    EXPECT_EQ(names(found[g]), wanted[g].at("params").get<std::vector<std::string>>());
    if (wanted[g].contains("param_names")) {
      EXPECT_EQ(found[g].names, wanted[g]["param_names"].get<std::vector<std::string>>());
    }
  }
}

std::vector<std::string> own_names(const ParamGroup& group) { return group.names; }

std::optional<double> optional_number(const Json& options, const char* key) {
  if (!options.contains(key) || options[key].is_null()) return std::nullopt;
  return reference_double(options[key]);
}

ParamGroupOptions group_options(const Json& input, std::vector<std::string>& asked) {
  const Json& arguments = input.at("kwargs");
  ParamGroupOptions options{.base_lr = optional_number(arguments, "base_lr"),
                            .weight_decay = optional_number(arguments, "weight_decay"),
                            .weight_decay_norm = optional_number(arguments, "weight_decay_norm"),
                            .bias_lr_factor = optional_number(arguments, "bias_lr_factor").value_or(1.0),
                            .weight_decay_bias = optional_number(arguments, "weight_decay_bias")};
  if (arguments.contains("overrides") && !arguments["overrides"].is_null()) {
    for (const auto& [name, values] : arguments["overrides"].items()) {
      Dict dict;
      for (const auto& [key, value] : values.items()) dict.set(key, option(value));
      options.overrides.emplace_back(name, std::move(dict));
    }
  }
  if (input.contains("lr_factor_table") && !input["lr_factor_table"].is_null()) {
    options.lr_factor_func = [&asked, table = input["lr_factor_table"]](const std::string& name) {
      asked.push_back(name);
      return reference_double(table.at("names").contains(name) ? table["names"][name] : table.at("default"));
    };
  }
  return options;
}

/// differences.json: "overrides stay as the caller wrote them": the second of two calls with the same overrides succeeds.
bool fails_only_in_the_second_call(const Json& input, const Json& expect) {
  if (!expect.contains("raised") || !expect.contains("overrides_after_call")) return false;
  const Json& given = input.at("kwargs").at("overrides");
  return expect["overrides_after_call"].contains("bias") && !given.contains("bias");
}

void run_default_params(const Json& input, const Json& expect) {
  auto model = make_model(input.at("modules"));
  std::vector<std::string> asked;
  ParamGroupOptions options = group_options(input, asked);
  if (fails_only_in_the_second_call(input, expect)) {
    auto first = get_default_optimizer_params(*model, options);
    auto second = get_default_optimizer_params(*model, options);
    EXPECT_EQ(first.size(), second.size());
    EXPECT_EQ(options.overrides.size(), input["kwargs"]["overrides"].size());
    return;
  }
  if (expect.contains("raised")) {
    EXPECT_THROW(get_default_optimizer_params(*model, options), ConfigError);
    return;
  }
  auto groups = get_default_optimizer_params(*model, options);
  expect_groups(groups, expect.at("groups"), own_names);
  if (expect.contains("names_passed_to_lr_factor_func")) {
    EXPECT_EQ(asked, expect["names_passed_to_lr_factor_func"].get<std::vector<std::string>>());
  }
}

void run_reduce(const Json& input, const Json& expect) {
  std::map<char, at::Tensor> tensors;
  std::map<const void*, std::string> letters;
  std::vector<ParamGroup> items;
  for (const Json& item : input.at("items")) {
    ParamGroup& group = items.emplace_back();
    for (char letter : item.at("params").get<std::string>()) {
      auto [place, added] = tensors.try_emplace(letter);
      if (added) place->second = at::zeros({1});
      letters[place->second.unsafeGetTensorImpl()] = std::string(1, letter);
      group.params.push_back(place->second);
    }
    for (const Json& entry : item.at("options")) group.options.set(entry[0].get<std::string>(), option(entry[1]));
    if (!item.at("param_names").is_null()) group.names = item["param_names"].get<std::vector<std::string>>();
  }
  auto names = [&](const ParamGroup& group) {
    std::vector<std::string> found;
    for (const at::Tensor& param : group.params) found.push_back(letters.at(param.unsafeGetTensorImpl()));
    return found;
  };
  if (expect.contains("expanded") && expect["expanded"].is_array())
    expect_groups(expand_param_groups(items), expect["expanded"], names);
  if (expect.contains("reduced") && expect["reduced"].is_array()) {
    expect_groups(reduce_param_groups(items), expect["reduced"], names);
  } else {
    EXPECT_THROW(reduce_param_groups(items), Error);
  }
}

OptimizerOptions optimizer_options(const Json& input) {
  const Json& solver = input.at("solver_effective");
  OptimizerOptions options{.base_lr = reference_double(solver.at("BASE_LR")),
                           .weight_decay = reference_double(solver.at("WEIGHT_DECAY")),
                           .weight_decay_norm = optional_number(solver, "WEIGHT_DECAY_NORM"),
                           .weight_decay_bias = optional_number(solver, "WEIGHT_DECAY_BIAS"),
                           .bias_lr_factor = reference_double(solver.at("BIAS_LR_FACTOR")),
                           .momentum = reference_double(solver.at("MOMENTUM")),
                           .nesterov = solver.at("NESTEROV").get<bool>()};
  const Json& given = input.at("solver");
  options.clip.enabled = given.value("CLIP_GRADIENTS.ENABLED", false);
  if (options.clip.enabled) {
    if (given.contains("CLIP_GRADIENTS.CLIP_TYPE"))
      options.clip.type = clip_type_from_string(given["CLIP_GRADIENTS.CLIP_TYPE"].get<std::string>());
    if (given.contains("CLIP_GRADIENTS.CLIP_VALUE"))
      options.clip.clip_value = reference_double(given["CLIP_GRADIENTS.CLIP_VALUE"]);
    if (given.contains("CLIP_GRADIENTS.NORM_TYPE")) options.clip.norm_type = reference_double(given["CLIP_GRADIENTS.NORM_TYPE"]);
  }
  return options;
}

void run_build_optimizer(const Json& input, const Json& expect) {
  auto model = make_model(input.at("modules"));
  if (expect.contains("raised")) {
    EXPECT_THROW(build_optimizer(optimizer_options(input), *model), ConfigError);
    return;
  }
  auto optimizer = build_optimizer(optimizer_options(input), *model);
  EXPECT_NE(dynamic_cast<Sgd*>(optimizer.get()), nullptr);
  bool clips = expect.at("class") == "SGDWithGradientClip";
  EXPECT_EQ(dynamic_cast<WithGradientClipping<Sgd>*>(optimizer.get()) != nullptr, clips);

  Dict state = optimizer_state_dict(*optimizer);
  const List& groups = state.at("param_groups").as_list();
  const Json& wanted = expect.at("state_dict_groups");
  ASSERT_EQ(groups.size(), wanted.size());
  for (std::size_t g = 0; g < groups.size(); ++g) {
    SCOPED_TRACE("group " + std::to_string(g));
    Dict group = groups[g].as_dict();
    List names = group.at("param_names").as_list();
    group.erase("param_names");  // Detectron2 gives the optimizer no names
    expect_options(group, wanted[g]);
    std::vector<std::string> params;
    for (const Value& name : names) params.push_back(name.as_string());
    EXPECT_EQ(params, expect.at("groups")[g].at("params").get<std::vector<std::string>>());
  }
}

TEST(ParamGroups, EveryCaseIsEqual) {
  run_cases("param_groups", {{"default_optimizer_params", run_default_params},
                             {"reduce_param_groups", run_reduce},
                             {"build_optimizer", run_build_optimizer}});
}

}  // namespace
}  // namespace treadle

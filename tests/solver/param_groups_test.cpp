#include <treadle/base/errors.hpp>
#include <treadle/solver/param_groups.hpp>

#include <ATen/ops/ones.h>
#include <ATen/ops/zeros.h>
#include <gtest/gtest.h>
#include <torch/nn/modules/batchnorm.h>
#include <torch/nn/modules/linear.h>

#include <functional>
#include <string>

namespace treadle {
namespace {

struct Net : torch::nn::Module {
  Net() {
    fc = register_module("fc", torch::nn::Linear(2, 3));
    bn = register_module("bn", torch::nn::BatchNorm1d(3));
    tied = register_module("tied", torch::nn::Linear(2, 3));
    scale = register_parameter("scale", at::ones({1}));
  }
  torch::nn::Linear fc{nullptr}, tied{nullptr};
  torch::nn::BatchNorm1d bn{nullptr};
  at::Tensor scale;
};

std::string group_names(const ParamGroup& group) {
  std::string names;
  for (const std::string& name : group.names) names += name + " ";
  return names;
}

TEST(ParamGroups, NormalizationLayersGetTheirOwnDecay) {
  Net net;
  auto groups = get_default_optimizer_params(net, {.base_lr = 0.1, .weight_decay = 0.01, .weight_decay_norm = 0.0});
  ASSERT_EQ(groups.size(), 2U);
  EXPECT_EQ(group_names(groups[0]), "scale fc.weight fc.bias tied.weight tied.bias ");
  EXPECT_EQ(group_names(groups[1]), "bn.weight bn.bias ");
  EXPECT_EQ(groups[1].options.at("weight_decay").as_double(), 0);
  EXPECT_TRUE(groups[1].params[0].is_same(net.bn->weight));
}

TEST(ParamGroups, AUsersModuleCanCountAsNormalization) {
  Net net;
  ParamGroupOptions options{.weight_decay_norm = 0.0};
  options.is_norm = [](const torch::nn::Module& module) {
    return dynamic_cast<const torch::nn::LinearImpl*>(&module) != nullptr;
  };
  auto groups = get_default_optimizer_params(net, options);
  ASSERT_EQ(groups.size(), 2U);
  EXPECT_EQ(group_names(groups[0]), "scale ");
}

TEST(ParamGroups, FrozenParametersAreLeftOut) {
  Net net;
  for (const auto& param : net.parameters()) param.set_requires_grad(false);
  EXPECT_TRUE(get_default_optimizer_params(net).empty());
}

TEST(ParamGroups, BiasOptionsAndFactors) {
  Net net;
  ParamGroupOptions options{.base_lr = 0.1, .bias_lr_factor = 2.0, .weight_decay_bias = 0.5};
  options.lr_factor_func = [](const std::string& name) { return name == ".scale" ? 3.0 : 1.0; };
  auto groups = get_default_optimizer_params(net, options);
  ASSERT_EQ(groups.size(), 3U);
  EXPECT_EQ(groups[0].options.at("lr").as_double(), 0.1 * 3.0);
  EXPECT_EQ(group_names(groups[2]), "fc.bias bn.bias tied.bias ");
  EXPECT_EQ(groups[2].options.at("lr").as_double(), 0.2);
  EXPECT_EQ(groups[2].options.at("weight_decay").as_double(), 0.5);
}

std::string refused(const ParamGroupOptions& options) {
  try {
    validate(options);
  } catch (const ConfigError& error) {
    return error.key();
  }
  return "";
}

TEST(ParamGroups, RefusesBadOptions) {
  EXPECT_EQ(refused({.base_lr = -1}), "ParamGroupOptions.base_lr");
  EXPECT_EQ(refused({.weight_decay = NAN}), "ParamGroupOptions.weight_decay");
  EXPECT_EQ(refused({.weight_decay_norm = -1}), "ParamGroupOptions.weight_decay_norm");
  EXPECT_EQ(refused({.weight_decay_bias = -1}), "ParamGroupOptions.weight_decay_bias");
  EXPECT_EQ(refused({.base_lr = 1, .bias_lr_factor = -1}), "ParamGroupOptions.bias_lr_factor");
  EXPECT_EQ(refused({.bias_lr_factor = 2}), "ParamGroupOptions.base_lr");
  EXPECT_EQ(refused({.lr_factor_func = [](const std::string&) { return 1.0; }}), "ParamGroupOptions.base_lr");
  EXPECT_EQ(refused({.weight_decay_bias = 0, .overrides = {{"bias", {}}}}), "ParamGroupOptions.overrides");
  EXPECT_EQ(refused({.overrides = {{"weight", {{"params", List{}}}}}}), "ParamGroupOptions.overrides");
  EXPECT_EQ(refused({.overrides = {{"bias", {{"lr", 1.0}}}}}), "");
}

TEST(ParamGroups, GroupsThatCannotBeComparedAreRefused) {
  auto tensor = [] { return at::zeros({1}); };
  EXPECT_THROW(reduce_param_groups({{{tensor()}, {}, {{"lr", List{1}}}}}), ConfigError);
  EXPECT_THROW(reduce_param_groups({{{tensor()}, {}, {{"lr", Tuple{tensor()}}}}}), ConfigError);
  EXPECT_THROW(reduce_param_groups({{{tensor()}, {"a"}, {}}, {{tensor()}, {}, {}}}), ConfigError);
  EXPECT_EQ(
      reduce_param_groups({{{tensor()}, {}, {{"lr", 1}}}, {{tensor()}, {}, {{"lr", 1.0}}}, {{tensor()}, {}, {{"lr", true}}}})
          .size(),
      1U);
}

std::string refused_groups(const std::vector<ParamGroup>& groups) {
  try {
    validate(groups);
  } catch (const ConfigError& error) {
    return error.what();
  }
  return "";
}

TEST(ParamGroups, ValidateNamesTheParameter) {
  at::Tensor a = at::zeros({1});
  auto contains = [](const std::string& text, const char* part) { return text.find(part) != std::string::npos; };
  EXPECT_EQ(refused_groups({{{a}, {"a"}, {}}}), "");
  EXPECT_TRUE(contains(refused_groups({}), "no parameters"));
  EXPECT_TRUE(contains(refused_groups({{{}, {}, {}}}), "group 0 is empty"));
  EXPECT_TRUE(contains(refused_groups({{{a, a}, {"one", "two"}, {}}}), "\"two\""));
  EXPECT_TRUE(contains(refused_groups({{{a}, {}, {}}, {{a}, {}, {}}}), "parameter 0 of group 1"));
  EXPECT_TRUE(contains(refused_groups({{{at::Tensor()}, {"none"}, {}}}), "\"none\""));
  EXPECT_TRUE(contains(refused_groups({{{a}, {"a", "b"}, {}}}), "names"));
  EXPECT_TRUE(contains(refused_groups({{{at::ones({1}).set_requires_grad(true) * 2}, {"computed"}, {}}}), "\"computed\""));
}

TEST(ParamGroups, ExpandLetsLaterOptionsWin) {
  at::Tensor a = at::zeros({1}), b = at::zeros({1});
  auto expanded = expand_param_groups({{{a, b}, {"a", "b"}, {{"lr", 1.0}, {"momentum", 0.5}}}, {{b}, {}, {{"lr", 2.0}}}});
  ASSERT_EQ(expanded.size(), 2U);
  EXPECT_EQ(expanded[1].options.at("lr").as_double(), 2);
  EXPECT_EQ(expanded[1].options.at("momentum").as_double(), 0.5);
  EXPECT_EQ(expanded[1].names[0], "b");
  EXPECT_EQ(expanded[0].options.at("lr").as_double(), 1);
}

}  // namespace
}  // namespace treadle

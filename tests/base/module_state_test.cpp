#include <treadle/base/errors.hpp>
#include <treadle/base/module_state.hpp>

#include <gtest/gtest.h>
#include <torch/nn/modules/batchnorm.h>
#include <torch/nn/modules/linear.h>

namespace treadle {
namespace {

struct Net final : torch::nn::Module {
  Net() {
    scale = register_parameter("scale", torch::ones({1}));
    first = register_module("first", torch::nn::Linear(2, 3));
    norm = register_module("norm", torch::nn::BatchNorm1d(3));
  }
  torch::Tensor scale;
  torch::nn::Linear first{nullptr};
  torch::nn::BatchNorm1d norm{nullptr};
};

std::vector<std::string> keys(const Dict& dict) {
  std::vector<std::string> names;
  for (const auto& entry : dict) names.push_back(entry.key.string());
  return names;
}

TEST(ModuleState, HasPythonsOrderAndAliasesTheModule) {
  Net net;
  const Dict state = module_state_dict(net);
  EXPECT_EQ(keys(state), (std::vector<std::string>{"scale", "first.weight", "first.bias", "norm.weight", "norm.bias",
                                                   "norm.running_mean", "norm.running_var", "norm.num_batches_tracked"}));
  EXPECT_EQ(state.at("first.weight").as_tensor().data_ptr(), net.first->weight.data_ptr());
  EXPECT_FALSE(state.at("first.weight").as_tensor().requires_grad());
  EXPECT_EQ(named_parameters(net).size(), 5u);
  EXPECT_EQ(named_buffers(net).size(), 3u);
}

TEST(ModuleState, LoadCopiesIntoTheTensorsThatAreThere) {
  Net from, to;
  const void* before = to.first->weight.data_ptr();
  load_module_state_dict(to, module_state_dict(from));
  EXPECT_TRUE(to.first->weight.equal(from.first->weight));
  EXPECT_EQ(to.first->weight.data_ptr(), before);
  EXPECT_TRUE(to.first->weight.requires_grad());
}

TEST(ModuleState, AMisfitIsNamedAndChangesNothing) {
  Net net;
  Dict state = deep_clone(module_state_dict(Net()));
  state.set("scale", torch::full({1}, 9.0f));
  state.set("first.weight", torch::zeros({3, 5}));
  state.erase("norm.bias");
  state.set("head.weight", torch::zeros({1}));
  try {
    load_module_state_dict(net, state);
    FAIL();
  } catch (const FormatError& error) {
    EXPECT_STREQ(error.what(),
                 "the state does not fit the model: missing \"norm.bias\"; unexpected \"head.weight\"; "
                 "first.weight has [3, 2] here and [3, 5] in the state");
  }
  EXPECT_EQ(net.scale.item<float>(), 1.0f);
}

TEST(ModuleState, SkippedNamesStayOutAndMayBeAbsent) {
  Net net;
  const std::vector<std::string> skip = {"norm.num_batches_tracked"};
  const Dict state = module_state_dict(net, skip);
  EXPECT_FALSE(state.contains("norm.num_batches_tracked"));
  EXPECT_NO_THROW(check_module_state_dict(net, state, skip));
  EXPECT_THROW(check_module_state_dict(net, state), FormatError);
  EXPECT_NO_THROW(check_module_state_dict(net, module_state_dict(net), skip));
}

TEST(ModuleState, EvaluationModeRestoresEveryChild) {
  torch::nn::Module outer;
  const auto inner = outer.register_module("inner", std::make_shared<Net>());
  const auto second = outer.register_module("second", std::make_shared<Net>());
  set_training(outer, true);
  inner->eval();
  inner->norm->train();
  {
    EvaluationMode evaluation(outer);
    for (const auto& module : outer.modules(/*include_self=*/false)) EXPECT_FALSE(is_training(*module));
    EXPECT_FALSE(is_training(outer));
  }
  EXPECT_TRUE(is_training(outer));
  EXPECT_FALSE(is_training(*inner));
  EXPECT_FALSE(is_training(*inner->first));
  EXPECT_TRUE(is_training(*inner->norm));
  EXPECT_TRUE(is_training(*second->first));
}

}  // namespace
}  // namespace treadle

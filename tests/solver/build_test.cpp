#include <treadle/base/errors.hpp>
#include <treadle/solver/adamw.hpp>
#include <treadle/solver/build.hpp>
#include <treadle/solver/optimizer_state.hpp>
#include <treadle/solver/sgd.hpp>
#include <treadle/solver/with_gradient_clipping.hpp>

#include <ATen/ops/full_like.h>
#include <ATen/ops/ones_like.h>
#include <gtest/gtest.h>
#include <torch/nn/modules/batchnorm.h>
#include <torch/nn/modules/linear.h>
#include <torch/optim/rmsprop.h>

#include <functional>
#include <string>
#include <tuple>

namespace treadle {
namespace {

struct Net : torch::nn::Module {
  Net() {
    fc = register_module("fc", torch::nn::Linear(2, 3));
    bn = register_module("bn", torch::nn::BatchNorm1d(3));
  }
  torch::nn::Linear fc{nullptr};
  torch::nn::BatchNorm1d bn{nullptr};
};

TEST(BuildOptimizer, BuildsByName) {
  Net net;
  EXPECT_NE(dynamic_cast<Sgd*>(build_optimizer({}, net).get()), nullptr);
  EXPECT_NE(dynamic_cast<AdamW*>(build_optimizer({.name = "ADAMW"}, net).get()), nullptr);
  EXPECT_NE(dynamic_cast<Adam*>(build_optimizer({.name = "ADAM"}, net).get()), nullptr);
  EXPECT_THROW(build_optimizer({.name = "SDG"}, net), ConfigError);
}

TEST(BuildOptimizer, PassesEveryOptionOn) {
  Net net;
  auto sgd = build_optimizer(
      {.base_lr = 0.5, .weight_decay = 0.25, .weight_decay_norm = 0.125, .momentum = 0.75, .nesterov = true, .fused = true}, net);
  const auto& options = static_cast<const torch::optim::SGDOptions&>(sgd->param_groups()[0].options());
  EXPECT_EQ(options.lr(), 0.5);
  EXPECT_EQ(options.weight_decay(), 0.25);
  EXPECT_EQ(options.momentum(), 0.75);
  EXPECT_TRUE(options.nesterov());
  EXPECT_TRUE(dynamic_cast<Sgd&>(*sgd).switches().fused);
  EXPECT_EQ(static_cast<const torch::optim::SGDOptions&>(sgd->param_groups()[1].options()).weight_decay(), 0.125);
  EXPECT_EQ(dynamic_cast<Sgd&>(*sgd).group_info(1).names, (std::vector<std::string>{"bn.weight", "bn.bias"}));

  OptimizerOptions more{.name = "ADAMW",
                        .weight_decay_norm = std::nullopt,
                        .weight_decay_bias = 0.5,
                        .bias_lr_factor = 2.0,
                        .beta1 = 0.5,
                        .beta2 = 0.75,
                        .eps = 0.125,
                        .amsgrad = true};
  more.groups.lr_factor_func = [](const std::string& name) { return name == "bn.weight" ? 4.0 : 1.0; };
  auto adamw = build_optimizer(more, net);
  ASSERT_EQ(adamw->param_groups().size(), 3U);
  const auto& bias = static_cast<const torch::optim::AdamWOptions&>(adamw->param_groups()[1].options());
  EXPECT_EQ(bias.betas(), (std::tuple<double, double>{0.5, 0.75}));
  EXPECT_EQ(bias.eps(), 0.125);
  EXPECT_TRUE(bias.amsgrad());
  EXPECT_EQ(bias.weight_decay(), 0.5);
  EXPECT_EQ(group_lrs(*adamw), (std::vector<double>{0.001, 0.002, 0.004}));
}

TEST(BuildOptimizer, NamesTheFieldThatIsWrong) {
  Net net;
  auto refused = [&](const OptimizerOptions& options) {
    try {
      build_optimizer(options, net);
    } catch (const ConfigError& error) {
      return error.key();
    }
    return std::string();
  };
  EXPECT_EQ(refused({.base_lr = -1}), "OptimizerOptions.base_lr");
  EXPECT_EQ(refused({.weight_decay = -1}), "OptimizerOptions.weight_decay");
  EXPECT_EQ(refused({.momentum = 2}), "OptimizerOptions.momentum");
  EXPECT_EQ(refused({.beta1 = 1}), "OptimizerOptions.beta1");
  EXPECT_EQ(refused({.beta2 = -1}), "OptimizerOptions.beta2");
  EXPECT_EQ(refused({.eps = -1}), "OptimizerOptions.eps");
  EXPECT_EQ(refused({.clip = {.enabled = true, .clip_value = -1}}), "GradientClippingOptions.clip_value");
  EXPECT_EQ(refused({.clip = {.enabled = false, .clip_value = -1}}), "");
  for (const at::Tensor& param : net.parameters()) param.set_requires_grad(false);
  EXPECT_EQ(refused({}), "params");
}

TEST(BuildOptimizer, RegisteredOptimizersComeWithClipping) {
  register_optimizer<torch::optim::RMSprop>("RMSPROP",
                                            [](const std::vector<ParamGroup>& groups, const OptimizerOptions& options) {
                                              std::vector<torch::optim::OptimizerParamGroup> converted;
                                              for (const ParamGroup& group : groups) converted.emplace_back(group.params);
                                              return std::make_tuple(converted, torch::optim::RMSpropOptions(options.base_lr));
                                            });
  Net net;
  auto plain = build_optimizer({.name = "RMSPROP", .base_lr = 0.5}, net);
  auto clipping = build_optimizer({.name = "RMSPROP", .clip = {.enabled = true, .clip_value = 0.25}}, net);
  EXPECT_NE(dynamic_cast<torch::optim::RMSprop*>(plain.get()), nullptr);
  EXPECT_EQ(dynamic_cast<WithGradientClipping<torch::optim::RMSprop>*>(plain.get()), nullptr);
  EXPECT_NE(dynamic_cast<WithGradientClipping<torch::optim::RMSprop>*>(clipping.get()), nullptr);
  EXPECT_EQ(group_lrs(*plain)[0], 0.5);
  for (const at::Tensor& param : net.parameters()) param.mutable_grad() = at::ones_like(param);
  clipping->step();
  EXPECT_TRUE(net.fc->weight.grad().eq(0.25).all().item<bool>());
}

TEST(WithGradientClipping, ClipsBeforeTheStepAndKeepsTheNorm) {
  for (const char* name : {"SGD", "ADAMW", "ADAM"}) {
    Net net;
    at::Tensor before = net.fc->weight.detach().clone();
    auto optimizer = build_optimizer({.name = name,
                                      .base_lr = 1,
                                      .weight_decay = 0,
                                      .momentum = 0,
                                      .clip = {.enabled = true, .type = ClipType::full_model, .clip_value = 0.5}},
                                     net);
    // 15 numbers of 2: the norm is 2 sqrt(15).
    for (const at::Tensor& param : net.parameters()) param.mutable_grad() = at::full_like(param, 2);
    optimizer->step();
    float factor = 0.5F * (1 / (2 * std::sqrt(15.0F) + 1e-6F));
    EXPECT_TRUE(net.fc->weight.grad().allclose(at::full_like(net.fc->weight, 2 * factor))) << name;
    if (auto* sgd = dynamic_cast<WithGradientClipping<Sgd>*>(optimizer.get())) {
      EXPECT_NEAR(sgd->last_norm()->item<double>(), 2 * std::sqrt(15.0), 1e-5);
      EXPECT_TRUE(net.fc->weight.detach().allclose(before - 2 * factor));
    }
  }
}

TEST(WithGradientClipping, ANonFiniteNormSkipsTheStepWhenAskedTo) {
  for (ClipType type : {ClipType::full_model, ClipType::norm}) {
    for (NonFiniteNorm policy : {NonFiniteNorm::pass, NonFiniteNorm::error, NonFiniteNorm::skip}) {
      Net net;
      at::Tensor before = net.fc->weight.detach().clone();
      auto optimizer = build_optimizer({.clip = {.enabled = true, .type = type, .clip_value = 0.5, .non_finite = policy}}, net);
      for (const at::Tensor& param : net.parameters()) param.mutable_grad() = at::full_like(param, 2);
      net.fc->weight.mutable_grad().fill_(INFINITY);
      if (policy == NonFiniteNorm::error) {
        EXPECT_THROW(optimizer->step(), Error);
      } else {
        optimizer->step();
      }
      bool changed = !net.fc->weight.detach().equal(before);
      EXPECT_EQ(changed, policy == NonFiniteNorm::pass);
    }
  }
}

}  // namespace
}  // namespace treadle

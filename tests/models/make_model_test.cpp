#include <treadle/base/errors.hpp>
#include <treadle/base/module_state.hpp>
#include <treadle/models.hpp>

#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>
#include <torch/nn/functional/loss.h>
#include <torch/nn/modules/batchnorm.h>
#include <torch/nn/modules/container/sequential.h>
#include <torch/nn/modules/linear.h>

namespace treadle {
namespace {

struct Net final : torch::nn::Module {
  explicit Net(int layers = 2) {
    scale = register_parameter("scale", torch::ones({1}));
    shift = register_parameter("shift", torch::ones({1}), /*requires_grad=*/false);
    calls = register_buffer("calls", torch::zeros({1}));
    for (int i = 0; i < layers; ++i) {
      linear.push_back(register_module("linear" + std::to_string(i), torch::nn::Linear(3, 3)));
      norm.push_back(register_module("norm" + std::to_string(i), torch::nn::BatchNorm1d(3)));
    }
  }
  torch::Tensor forward(torch::Tensor x) {
    calls += 1;
    for (std::size_t i = 0; i < linear.size(); ++i) x = norm[i](linear[i](x));
    return x * scale + shift;
  }
  torch::Tensor scale, shift, calls;
  std::vector<torch::nn::Linear> linear;
  std::vector<torch::nn::BatchNorm1d> norm;
};

const auto mean_loss = [](auto& net, const Batch& batch) -> LossDict {
  return {{"loss", net->forward(batch.tensor("x")).mean()}};
};

Batch some_batch() { return Batch(Dict{{"x", torch::ones({4, 3})}}); }

RC_GTEST_PROP(MakeModelProperties, NamesAndTensorsAreThoseOfTheModule, ()) {
  auto net = std::make_shared<Net>(*rc::gen::inRange(0, 4));
  const auto model = make_model(net, mean_loss);
  const auto own = named_parameters(*net), seen = named_parameters(*model);
  RC_ASSERT(own.size() == seen.size());
  for (std::size_t i = 0; i < own.size(); ++i) {
    RC_ASSERT(own[i].name == seen[i].name);
    RC_ASSERT(own[i].tensor.is_same(seen[i].tensor));
  }
  RC_ASSERT(identical(module_state_dict(*net), module_state_dict(*model)));
}

TEST(MakeModel, FrozenParametersStayFrozenAndBuffersAreLive) {
  auto net = std::make_shared<Net>();
  const auto model = make_model(net, mean_loss);
  EXPECT_FALSE(model->named_parameters()["shift"].requires_grad());
  EXPECT_TRUE(model->named_parameters()["scale"].requires_grad());
  model->losses(some_batch());
  EXPECT_EQ(model->named_buffers()["calls"].item<float>(), 1);
}

TEST(MakeModel, ModeReachesTheModuleItself) {
  auto net = std::make_shared<Net>();
  const auto model = make_model(net, mean_loss);
  model->eval();
  EXPECT_FALSE(net->is_training());
  EXPECT_FALSE(net->norm[0]->is_training());
  model->train();
  EXPECT_TRUE(net->is_training());
  EXPECT_TRUE(net->norm[0]->is_training());
  net->eval();
  net->norm[0]->train();
  EXPECT_FALSE(make_model(net, mean_loss)->is_training());
  EXPECT_TRUE(net->norm[0]->is_training());
  net->train();
  net->norm[1]->eval();
  EXPECT_TRUE(make_model(net, mean_loss)->is_training());
  EXPECT_FALSE(net->norm[1]->is_training());
}

TEST(MakeModel, DtypeReachesTheModuleItself) {
  auto net = std::make_shared<Net>();
  make_model(net, mean_loss)->to(torch::kDouble);
  EXPECT_EQ(net->scale.scalar_type(), torch::kDouble);
  EXPECT_EQ(net->linear[0]->weight.scalar_type(), torch::kDouble);
}

TEST(MakeModel, TakesHolders) {
  torch::nn::Sequential net(torch::nn::Linear(3, 2), torch::nn::Linear(2, 1));
  const auto model = make_model(net, mean_loss, [](auto& module, const Batch& batch) {
    List predictions;
    for (const auto& row : module->forward(batch.tensor("x")).unbind(0)) predictions.push_back(Dict{{"y", row}});
    return predictions;
  });
  EXPECT_EQ(named_parameters(*model).front().name, "0.weight");
  EXPECT_EQ(model->losses(some_batch()).front().first, "loss");
  EXPECT_EQ(model->predict(some_batch()).size(), 4u);
  EXPECT_TRUE(model->non_persistent().empty());
}

TEST(MakeModel, WhatIsMissingIsSaid) {
  EXPECT_THROW(make_model(std::shared_ptr<Net>(), mean_loss), Error);
  EXPECT_THROW(adapt_module(std::make_shared<Net>(), nullptr), Error);
  EXPECT_THROW(make_model(std::make_shared<Net>(), mean_loss)->predict(some_batch()), Error);
  EXPECT_THROW(make_model(std::make_shared<Net>(), mean_loss)->losses(Batch(Dict{{"y", torch::ones({1})}})), FormatError);
}

}  // namespace
}  // namespace treadle

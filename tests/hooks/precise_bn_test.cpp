#include <tests/hooks/idle_trainer.hpp>
#include <treadle/base/errors.hpp>
#include <treadle/data/batch_source.hpp>
#include <treadle/hooks.hpp>
#include <treadle/models/model.hpp>

#include <ATen/ops/allclose.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/equal.h>
#include <ATen/ops/rand.h>
#include <gtest/gtest.h>
#include <torch/nn/modules/batchnorm.h>
#include <torch/nn/modules/linear.h>

namespace treadle {
namespace {

using hooks::PreciseBN;
using hooks::PreciseBNOptions;

struct BnModel final : Model {
  torch::nn::BatchNorm1d norm{torch::nn::BatchNorm1dOptions(3).momentum(0.25)};
  torch::nn::BatchNorm1d unused{2};
  int calls = 0;
  bool twice = false;
  BnModel() {
    register_module("norm", norm);
    register_module("unused", unused);
  }
  LossDict losses(const Batch& batch) override {
    ++calls;
    const at::Tensor x = batch.tensor("x");
    EXPECT_FALSE(at::GradMode::is_enabled());
    get_event_storage().put_scalar("inside", 1);
    const at::Tensor y = norm(x);
    return {{"loss", twice ? norm(y).sum() : y.sum()}};
  }
  List predict(const Batch&) override { return {}; }
};

struct PreciseBNTest : testing::Test {
  BnModel model;
  IdleTrainer trainer;
  std::vector<at::Tensor> inputs{at::rand({4, 3}), at::rand({2, 3}) * 3, at::rand({6, 3}) - 5};

  std::unique_ptr<BatchSource> source(std::optional<int> ends_after = {}) const {
    if (ends_after) {
      auto left = std::make_shared<int>(*ends_after);
      return make_batch_source(
          [left, x = inputs.front()]() -> std::optional<Batch> {
            return (*left)-- > 0 ? std::optional(Batch({{"x", x}})) : std::nullopt;
          },
          {.name = "short"});
    }
    auto position = std::make_shared<std::size_t>(0);
    return make_batch_source(
        [position, inputs = inputs]() -> std::optional<Batch> { return Batch({{"x", inputs[(*position)++ % inputs.size()]}}); });
  }
};

TEST_F(PreciseBNTest, StatisticsAreThoseOfAllSamplesTogether) {
  PreciseBN hook(model, source(), {.num_iter = 3});
  hook.update_stats();
  const at::Tensor all = at::cat(inputs).to(at::kDouble);
  EXPECT_TRUE(at::allclose(model.norm->running_mean.to(at::kDouble), all.mean(0), 1e-5, 1e-6));
  EXPECT_TRUE(at::allclose(model.norm->running_var.to(at::kDouble), all.var(0, /*unbiased=*/false), 1e-5, 1e-6));
  EXPECT_EQ(model.norm->options.momentum(), 0.25);
}

TEST_F(PreciseBNTest, WhatSawNoBatchBecomesZero) {
  PreciseBN(model, source(), {.num_iter = 1}).update_stats();
  EXPECT_EQ(model.unused->running_var.sum().item<double>(), 0);
  EXPECT_EQ(model.unused->options.momentum(), 0.1);
  PreciseBN(model, source(), {.num_iter = 0}).update_stats();
  EXPECT_EQ(model.norm->running_var.sum().item<double>(), 0);
}

TEST_F(PreciseBNTest, TheBuffersStayTheSameTensors) {
  const at::Tensor mean = model.norm->running_mean;
  PreciseBN(model, source(), {.num_iter = 1}).update_stats();
  EXPECT_TRUE(model.norm->running_mean.is_same(mean));
  EXPECT_TRUE(at::allclose(mean, inputs.front().mean(0)));
}

TEST_F(PreciseBNTest, RunsEveryPeriodAndInTheLastIteration) {
  std::vector<std::int64_t> at;
  trainer.add_hook<PreciseBN>(model, source(), PreciseBNOptions{.period = 2, .num_iter = 3});
  trainer.add_hook<hooks::CallbackHook>(hooks::Callbacks{.after_step = [&](TrainerBase& t) {
    if (model.calls > 0) at.push_back(t.iter());
    model.calls = 0;
  }});
  trainer.train(0, 5);
  EXPECT_EQ(at, (std::vector<std::int64_t>{1, 3, 4}));
  EXPECT_EQ(trainer.storage().find_history("inside"), nullptr);
}

TEST_F(PreciseBNTest, PeriodZeroMeansTheLastIterationOnly) {
  trainer.add_hook<PreciseBN>(model, source(), PreciseBNOptions{.num_iter = 4});
  trainer.train(0, 3);
  EXPECT_EQ(model.calls, 4);
}

TEST_F(PreciseBNTest, LayersInEvaluationModeStayAlone) {
  model.eval();
  trainer.add_hook<PreciseBN>(model, source(), PreciseBNOptions{.period = 1});
  trainer.train(0, 2);
  EXPECT_EQ(model.calls, 0);
  EXPECT_EQ(trainer.logs.at(1), "PreciseBN has nothing to do: the model has no batch norm layers in training mode");
  EXPECT_EQ(hooks::count_bn_layers(model), 0u);
  model.norm->train();
  EXPECT_EQ(hooks::count_bn_layers(model), 1u);
}

TEST_F(PreciseBNTest, ASourceThatEndsEarlyIsNamedAndChangesNothing) {
  const at::Tensor variance = model.norm->running_var.clone();
  PreciseBN hook(model, source(2), {.num_iter = 3});
  try {
    hook.update_stats();
    FAIL();
  } catch (const Error& error) {
    EXPECT_STREQ(error.what(), "PreciseBN needs 3 batches, but those of \"short\" ended after 2");
  }
  EXPECT_EQ(model.norm->options.momentum(), 0.25);
  EXPECT_TRUE(at::equal(model.norm->running_var, variance));
  EXPECT_EQ(model.norm->num_batches_tracked.item<std::int64_t>(), 0);
}

TEST_F(PreciseBNTest, ALayerUsedTwiceIsNamed) {
  model.twice = true;
  try {
    PreciseBN(model, source(), {.num_iter = 1}).update_stats();
    FAIL();
  } catch (const Error& error) {
    EXPECT_NE(std::string(error.what()).find("\"norm\" is used 2 times"), std::string::npos) << error.what();
  }
  EXPECT_EQ(model.norm->options.momentum(), 0.25);
}

TEST_F(PreciseBNTest, ThePositionOfItsSourceIsState) {
  std::vector<Batch> batches;
  for (const at::Tensor& x : inputs) batches.emplace_back(Dict{{"x", x}});
  PreciseBN first(model, make_batch_source(batches), {.num_iter = 1});
  first.update_stats();
  const Dict state = deep_clone(first.state_dict());
  first.update_stats();
  const at::Tensor second_batch = model.norm->running_mean.clone();

  PreciseBN resumed(model, make_batch_source(batches), {.num_iter = 1});
  resumed.check_state_dict(state);
  resumed.load_state_dict(state);
  resumed.update_stats();
  EXPECT_TRUE(at::equal(model.norm->running_mean, second_batch));
  EXPECT_THROW(resumed.check_state_dict({}), FormatError);
}

TEST_F(PreciseBNTest, BadArgumentsAreRefused) {
  EXPECT_THROW(hooks::validate(PreciseBNOptions{.period = -1}), ConfigError);
  EXPECT_THROW(PreciseBN(model, source(), {.num_iter = -1}), ConfigError);
  EXPECT_THROW(PreciseBN(model, nullptr), Error);
  EXPECT_THROW(hooks::update_bn_stats(model, [] {}, -1), ConfigError);
  torch::nn::Linear plain(1, 1);
  EXPECT_NO_THROW(hooks::update_bn_stats(*plain, [] { FAIL(); }, 3));
}

}  // namespace
}  // namespace treadle

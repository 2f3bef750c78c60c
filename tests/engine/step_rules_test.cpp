// Rules of a step that show only where several options meet: batches, clipping, closures, periods.
#include <treadle/base/errors.hpp>
#include <treadle/base/log.hpp>
#include <treadle/data/batch_source.hpp>
#include <treadle/engine.hpp>
#include <treadle/models/make_model.hpp>

#include <ATen/ops/full.h>
#include <ATen/ops/ones_like.h>
#include <gtest/gtest.h>
#include <torch/optim/sgd.h>

#include <limits>
#include <vector>

namespace treadle {
namespace {

/// One weight w and the loss x · w, whose gradient is x.
struct Line final : torch::nn::Module {
  Line() { w = register_parameter("w", torch::ones({1})); }
  torch::Tensor w;
};

struct StepRules : testing::Test {
  LogCapture quiet{[](LogLevel, std::string_view) {}};
  std::shared_ptr<Line> line = std::make_shared<Line>();
  float infinite_from = 1e9F;  // the batch from which the loss is infinite
  std::shared_ptr<Model> model = make_model(line, [this](auto& module, const Batch& batch) {
    const at::Tensor x = batch.tensor("x");
    const bool bad = static_cast<float>(batch.ids().front()) >= infinite_from;
    return LossDict{{"loss", (x * module->w).mean() * (bad ? std::numeric_limits<float>::infinity() : 1.0F)}};
  });
  /// Batch i has the samples 2 i and 2 i + 1, both with x = 4.
  std::unique_ptr<BatchSource> source = make_batch_source(std::function<std::optional<Batch>()>([i = std::int64_t{0}]() mutable {
    const std::int64_t first = 2 * i++;
    return std::optional<Batch>(Batch(Dict{{"x", at::full({2}, 4.0F)}}, {first, first + 1}));
  }));
};

TEST_F(StepRules, TheErrorHasTheSamplesOfAllBatchesOfTheStep) {
  infinite_from = 10;
  torch::optim::SGD sgd(line->parameters(), 0.5);
  SimpleTrainer trainer(model, *source, sgd, {.batches_per_step = 3});
  try {
    trainer.train(0, 4);
    FAIL();
  } catch (const NonFiniteError& error) {
    EXPECT_EQ(error.iteration(), 1);
    EXPECT_EQ(error.ids(), (std::vector<std::int64_t>{6, 7, 8, 9, 10, 11}));
  }
}

TEST_F(StepRules, TheNormIsRecordedWithTheOtherMetrics) {
  torch::optim::SGD sgd(line->parameters(), 0.5);
  const GradientClippingOptions clip{.enabled = true, .type = ClipType::full_model, .clip_value = 1};
  SimpleTrainer trainer(model, *source, sgd, {.gather_metric_period = 3, .clip = clip});
  trainer.train(0, 7);
  EXPECT_EQ(trainer.storage().count_samples("grad_norm", 100), 2);
}

/// Asks its closure twice and notes the gradient behind each.
struct AskingTwice final : torch::optim::SGD {
  using SGD::SGD;
  at::Tensor step(LossClosure closure = nullptr) override {
    for (int i = 0; i < 2; ++i) {
      closure();
      gradients.push_back(param_groups()[0].params()[0].grad().item<double>());
    }
    return {};
  }
  std::vector<double> gradients;
};

TEST_F(StepRules, EveryCallOfAClosureLeavesTheGradientsOfOnePassClipped) {
  AskingTwice plain(line->parameters(), 0.5);
  SimpleTrainer(model, *source, plain, {.closure = true}).train(0, 1);
  EXPECT_EQ(plain.gradients, (std::vector<double>{4, 4}));
  AskingTwice clipped(line->parameters(), 0.5);
  const GradientClippingOptions clip{.enabled = true, .type = ClipType::value, .clip_value = 1};
  SimpleTrainer(model, *source, clipped, {.clip = clip, .closure = true}).train(0, 1);
  EXPECT_EQ(clipped.gradients, (std::vector<double>{1, 1}));
}

/// One step with gradients of this kind; whether it was made.
bool steps_with(const at::Tensor& gradient, BatchSource& source) {
  auto module = std::make_shared<torch::nn::Module>();
  const at::Tensor w = module->register_parameter("w", at::ones_like(gradient));
  const at::Tensor empty = module->register_parameter("empty", torch::zeros({0}, gradient.options()));
  const auto model =
      make_model(module, [&](auto&, const Batch&) { return LossDict{{"loss", ((w * 0).sum() + empty.sum()).to(at::kFloat)}}; });
  w.register_hook([gradient](const at::Tensor&) { return gradient; });
  torch::optim::SGD sgd(module->parameters(), 0.5);
  SimpleTrainer trainer(model, source, sgd, {.non_finite = {.action = NonFiniteAction::skip, .check_gradients = true}});
  trainer.train(0, 1);
  return trainer.state_dict().find("skipped_steps") == nullptr;
}

TEST_F(StepRules, GradientsAreFiniteThoughTheirSumIsNot) {
  for (const at::ScalarType type : {at::kHalf, at::kBFloat16, at::kFloat, at::kDouble}) {
    for (const double largest : {6e4, 1e38}) {
      if (type == at::kHalf && largest > 65504) continue;
      at::Tensor gradient = at::full({100}, largest, type);
      EXPECT_TRUE(steps_with(gradient, *source)) << type << " " << largest;
      for (const double bad : {std::numeric_limits<double>::infinity(), std::numeric_limits<double>::quiet_NaN()}) {
        at::Tensor broken = gradient.clone();
        broken[37] = bad;
        EXPECT_FALSE(steps_with(broken, *source)) << type << " " << largest << " " << bad;
      }
    }
  }
}

}  // namespace
}  // namespace treadle

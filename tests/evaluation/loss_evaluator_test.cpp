#include <tests/evaluation/spread.hpp>
#include <treadle/base/errors.hpp>
#include <treadle/base/log.hpp>
#include <treadle/data/batch_source.hpp>
#include <treadle/evaluation.hpp>
#include <treadle/models/make_model.hpp>

#include <ATen/ops/tensor.h>
#include <gtest/gtest.h>
#include <torch/nn/modules/dropout.h>

namespace treadle {
namespace {

struct Net final : torch::nn::Module {
  Net() { dropout = register_module("dropout", torch::nn::Dropout(0.5)); }
  torch::nn::Dropout dropout{nullptr};
  int calls = 0;
};

/// Losses: the mean of x, and of its squares.
struct LossEvaluators : testing::Test {
  LogCapture quiet{[](LogLevel, std::string_view) {}};
  std::shared_ptr<Net> net = std::make_shared<Net>();
  bool training = true, gradients = true;
  std::string second = "squares";
  std::shared_ptr<Model> model = make_model(
      net,
      [this](auto& n, const Batch& batch) -> LossDict {
        ++n->calls;
        training = n->is_training();
        gradients = (torch::ones({1}, torch::requires_grad()) * 2).requires_grad();
        const at::Tensor& x = batch.tensor("x");
        return {{"mean", x.mean()}, {second, x.square().mean()}};
      },
      [](auto&, const Batch& batch) { return many(Dict{}, batch.size()); });

  static List many(const Value& value, std::int64_t count) {
    List list;
    for (; count > 0; --count) list.push_back(value);
    return list;
  }
  static Batch batch(const std::vector<double>& x, std::vector<std::int64_t> ids = {}) {
    Dict fields{{"x", at::tensor(x, at::kDouble)}, {"names", many("n", static_cast<std::int64_t>(x.size()))}, {"size", 28}};
    return ids.empty() ? Batch(std::move(fields)) : Batch(std::move(fields), std::move(ids));
  }
  static double metric(const Dict& results, const std::string& name) { return results.at("loss").as_dict().at(name).as_double(); }
};

TEST_F(LossEvaluators, MeansOverSamplesInEvaluationMode) {
  model->train();
  const auto source = make_batch_source({batch({1, 2, 3}), batch({10})});
  LossEvaluator evaluator;
  const Dict results = inference_on_dataset(*model, *source, evaluator, *make_single_process_group());
  EXPECT_DOUBLE_EQ(metric(results, "mean"), 4);
  EXPECT_DOUBLE_EQ(metric(results, "squares"), 114.0 / 4);
  EXPECT_DOUBLE_EQ(metric(results, "total_loss"), 32.5);
  EXPECT_EQ(metric(results, "num_samples"), 4);
  EXPECT_EQ(net->calls, 2);
  EXPECT_FALSE(training);
  EXPECT_FALSE(gradients);
  EXPECT_TRUE(model->is_training());
}

TEST_F(LossEvaluators, ATotalOfTheModelsOwnStays) {
  second = "total_loss";
  const auto source = make_batch_source({batch({1, 2, 3})});
  LossEvaluator evaluator;
  const Dict results = inference_on_dataset(*model, *source, evaluator, *make_single_process_group());
  EXPECT_DOUBLE_EQ(metric(results, "total_loss"), 14.0 / 3);
}

TEST_F(LossEvaluators, ASampleSeenTwiceLeavesItsBatch) {
  LossEvaluator evaluator({.task = "validation"});
  evaluator.set_model(*model);
  evaluator.reset();
  evaluator.process(batch({1, 2}, {0, 1}), {});
  evaluator.process(batch({5, 2}, {2, 1}), {});
  evaluator.process(batch({5}, {2}), {});
  const Dict results = evaluator.evaluate();
  EXPECT_DOUBLE_EQ(results.at("validation").as_dict().at("mean").as_double(), 8.0 / 3);
  EXPECT_EQ(results.at("validation").as_dict().at("num_samples").as_int(), 3);
}

TEST_F(LossEvaluators, OneByOneIsTheSameForAnyNumberOfRanks) {
  const auto judge = [&](DatasetEvaluator& evaluator, const std::vector<std::int64_t>& ids) {
    evaluator.set_model(*model);
    std::vector<double> x;
    for (std::int64_t id : ids) x.push_back(1.0 / static_cast<double>(id + 3));
    evaluator.process(batch(x, ids), {});
  };
  const auto make = [](bool one_by_one) {
    return [one_by_one](std::shared_ptr<Group> group) {
      return std::make_unique<LossEvaluator>(LossEvaluatorOptions{.group = std::move(group), .one_by_one = one_by_one});
    };
  };
  const Dict alone = spread_over_ranks(1, 11, make(true), judge);
  EXPECT_EQ(net->calls, 11);
  double mean = 0;
  for (int i = 0; i < 11; ++i) mean += 1.0 / (i + 3) / 11;
  EXPECT_NEAR(metric(alone, "mean"), mean, 1e-12);
  for (int ranks : {2, 4}) {
    EXPECT_TRUE(identical(Value(spread_over_ranks(ranks, 11, make(true), judge)), Value(alone)));
    EXPECT_EQ(metric(spread_over_ranks(ranks, 11, make(false), judge), "num_samples"), 11);
  }
  EXPECT_NEAR(metric(spread_over_ranks(1, 11, make(false), judge), "mean"), mean, 1e-12);
}

TEST_F(LossEvaluators, WhatIsWrongIsSaid) {
  LossEvaluator evaluator;
  EXPECT_THROW(evaluator.process(batch({1}), {}), Error);
  evaluator.set_model(*model);
  EXPECT_THROW(evaluator.evaluate(), FormatError);
  evaluator.process(batch({1}), {});
  second = "other";
  EXPECT_THROW(evaluator.process(batch({1}), {}), FormatError);
}

TEST(EvaluatorRegistry, KnowsTheBuiltIns) {
  for (const char* name : {"ClassificationEvaluator", "RegressionEvaluator", "LossEvaluator"}) {
    EXPECT_NE(evaluator_registry().get(name)({.dataset = "a"}), nullptr) << name;
  }
  EXPECT_THROW(evaluator_registry().get("ClasificationEvaluator"), ConfigError);
}

}  // namespace
}  // namespace treadle

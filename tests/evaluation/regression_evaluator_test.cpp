#include <tests/evaluation/spread.hpp>
#include <treadle/base/errors.hpp>
#include <treadle/evaluation.hpp>

#include <ATen/ops/tensor.h>
#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include <cmath>
#include <limits>

namespace treadle {
namespace {

List values(const std::vector<std::vector<double>>& rows) {
  List list;
  for (const auto& row : rows) list.push_back(Dict{{"value", at::tensor(row, at::kDouble)}});
  return list;
}

List tensors(const std::vector<std::vector<double>>& rows) {
  List list;
  for (const auto& row : rows) list.push_back(at::tensor(row, at::kDouble));
  return list;
}

double metric(const Dict& results, const std::string& name) { return results.at("regression").as_dict().at(name).as_double(); }

TEST(RegressionEvaluator, EqualsTheFormulasByHand) {
  RegressionEvaluator evaluator;
  evaluator.reset();
  evaluator.process(Batch(Dict{{"target", at::tensor({1.0, 3.0})}}),
                    List{Dict{{"value", 2.0}}, Dict{{"value", at::tensor({3.0})}}});
  evaluator.process(Batch(Dict{{"target", at::tensor({-2.0, 6.0})}}), values({{-5}, {4}}));
  const Dict results = evaluator.evaluate();  // errors 1, 0, -3, -2; targets 1, 3, -2, 6: mean 2, squared deviations 1+1+16+16
  EXPECT_DOUBLE_EQ(metric(results, "mae"), 6.0 / 4);
  EXPECT_DOUBLE_EQ(metric(results, "mse"), 14.0 / 4);
  EXPECT_DOUBLE_EQ(metric(results, "rmse"), std::sqrt(3.5));
  EXPECT_DOUBLE_EQ(metric(results, "max_error"), 3);
  EXPECT_DOUBLE_EQ(metric(results, "r2"), 1 - 14.0 / 34);
  EXPECT_EQ(metric(results, "num_samples"), 4);
}

RC_GTEST_PROP(RegressionEvaluatorProperties, NoMatterHowSamplesAreSpread, ()) {
  const auto samples = *rc::gen::inRange<std::size_t>(1, 20);
  std::vector<std::vector<double>> truth, guess;
  for (std::size_t i = 0; i < samples; ++i) {
    const auto size = *rc::gen::inRange<std::size_t>(1, 4);
    truth.push_back(*rc::gen::container<std::vector<double>>(
        size, rc::gen::map(rc::gen::inRange(-1000, 1000), [](int n) { return n / 7.0; })));
    guess.push_back(*rc::gen::container<std::vector<double>>(
        size, rc::gen::map(rc::gen::inRange(-1000, 1000), [](int n) { return n / 9.0; })));
  }
  const auto judge = [&](DatasetEvaluator& evaluator, const std::vector<std::int64_t>& ids) {
    std::vector<std::vector<double>> own_truth, own_guess;
    for (std::int64_t id : ids) {
      own_truth.push_back(truth[static_cast<std::size_t>(id)]);
      own_guess.push_back(guess[static_cast<std::size_t>(id)]);
    }
    evaluator.process(Batch(Dict{{"target", tensors(own_truth)}}, ids), values(own_guess));
  };
  const auto make = [](std::shared_ptr<Group> group) {
    return std::make_unique<RegressionEvaluator>(RegressionEvaluatorOptions{.group = std::move(group)});
  };
  const Dict alone = spread_over_ranks(1, samples, make, judge);
  double absolute = 0, count = 0, mean = 0, squared = 0, deviation = 0;
  for (std::size_t i = 0; i < samples; ++i) {
    for (std::size_t j = 0; j < truth[i].size(); ++j) {
      absolute += std::fabs(truth[i][j] - guess[i][j]);
      squared += (truth[i][j] - guess[i][j]) * (truth[i][j] - guess[i][j]);
      mean += truth[i][j];
      ++count;
    }
  }
  for (const auto& row : truth) {
    for (double value : row) deviation += (value - mean / count) * (value - mean / count);
  }
  RC_ASSERT(std::fabs(metric(alone, "mae") - absolute / count) <= 1e-9 * (1 + absolute));
  if (deviation > 1e-3) RC_ASSERT(std::fabs(metric(alone, "r2") - (1 - squared / deviation)) <= 1e-9 * (1 + squared / deviation));
  for (int ranks : {2, 4}) RC_ASSERT(identical(Value(spread_over_ranks(ranks, samples, make, judge)), Value(alone)));
}

TEST(RegressionEvaluator, OptionsNameTaskAndFields) {
  RegressionEvaluator evaluator({.task = "price", .prediction = "p", .target = "t"});
  evaluator.process(Batch(Dict{{"t", at::tensor({1.0f})}}), List{Dict{{"p", 1.5}}});
  const Dict results = evaluator.evaluate();
  EXPECT_EQ(results.at("price").as_dict().at("mae").as_double(), 0.5);
  EXPECT_FALSE(results.at("price").as_dict().contains("r2"));
  evaluator.reset();
  EXPECT_THROW(evaluator.evaluate(), FormatError);
}

TEST(RegressionEvaluator, WhatIsNoNumberShows) {
  const double nan = std::numeric_limits<double>::quiet_NaN();
  RegressionEvaluator evaluator;
  evaluator.process(Batch(Dict{{"target", at::tensor({1.0, 3.0, 4.0})}}), values({{1}, {nan}, {9}}));
  const Dict results = evaluator.evaluate();
  EXPECT_TRUE(std::isnan(metric(results, "mae")));
  EXPECT_TRUE(std::isnan(metric(results, "max_error")));
}

TEST(RegressionEvaluator, BadInputIsNamed) {
  RegressionEvaluator evaluator;
  EXPECT_THROW(evaluator.process(Batch(Dict{{"x", at::tensor({1.0})}}), values({{1}})), FormatError);
  EXPECT_THROW(evaluator.process(Batch(Dict{{"target", at::tensor({1.0})}}), List{Dict{{"scores", 1.0}}}), FormatError);
  EXPECT_THROW(evaluator.process(Batch(Dict{{"target", at::tensor({1.0})}}), values({{1, 2}})), FormatError);
  EXPECT_THROW(evaluator.process(Batch(Dict{{"target", at::tensor({1.0})}}), List{Dict{{"value", "one"}}}), FormatError);
}

}  // namespace
}  // namespace treadle

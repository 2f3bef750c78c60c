#include <tests/evaluation/spread.hpp>
#include <tests/support/fake_group.hpp>
#include <tests/support/temporary_folder.hpp>
#include <treadle/base/errors.hpp>
#include <treadle/evaluation.hpp>

#include <ATen/ops/tensor.h>
#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include <algorithm>
#include <limits>

namespace treadle {
namespace {

List predictions(const std::vector<std::vector<double>>& scores) {
  List list;
  for (const auto& row : scores) list.push_back(Dict{{"scores", at::tensor(row, at::kFloat)}});
  return list;
}

Batch labels(const std::vector<std::int64_t>& values, std::vector<std::int64_t> ids = {}) {
  Dict fields{{"label", at::tensor(values, at::kLong)}};
  return ids.empty() ? Batch(std::move(fields)) : Batch(std::move(fields), std::move(ids));
}

double metric(const Dict& results, const std::string& name) {
  return results.at("classification").as_dict().at(name).as_double();
}

/// Top-k by sorting, with equal scores in the order of their index.
bool among_top(const std::vector<double>& scores, std::int64_t label, std::size_t k) {
  std::vector<std::size_t> order(scores.size());
  for (std::size_t i = 0; i < order.size(); ++i) order[i] = i;
  std::stable_sort(order.begin(), order.end(), [&](std::size_t a, std::size_t b) { return scores[a] > scores[b]; });
  return std::find(order.begin(), order.begin() + static_cast<std::ptrdiff_t>(std::min(k, order.size())),
                   static_cast<std::size_t>(label)) != order.begin() + static_cast<std::ptrdiff_t>(std::min(k, order.size()));
}

RC_GTEST_PROP(ClassificationEvaluatorProperties, EqualsCountingByHand, ()) {
  const auto classes = static_cast<std::size_t>(*rc::gen::inRange(2, 9));
  ClassificationEvaluator evaluator;
  evaluator.reset();
  int total = 0, first = 0, five = 0;
  for (int batch = *rc::gen::inRange(1, 4); batch > 0; --batch) {
    std::vector<std::vector<double>> scores;
    std::vector<std::int64_t> truth;
    for (int n = *rc::gen::inRange(1, 6); n > 0; --n) {
      std::vector<double> row;
      for (std::size_t c = 0; c < classes; ++c) row.push_back(*rc::gen::inRange(0, 4));
      scores.push_back(row);
      truth.push_back(*rc::gen::inRange<std::int64_t>(0, static_cast<std::int64_t>(classes)));
      ++total;
      first += among_top(row, truth.back(), 1);
      five += among_top(row, truth.back(), 5);
    }
    evaluator.process(labels(truth), predictions(scores));
  }
  const Dict results = evaluator.evaluate();
  RC_ASSERT(metric(results, "accuracy") == 100.0 * first / total);
  RC_ASSERT(metric(results, "num_samples") == total);
  const bool has_five = results.at("classification").as_dict().contains("top5_accuracy");
  RC_ASSERT(has_five == (classes > 5));
  if (has_five) RC_ASSERT(metric(results, "top5_accuracy") == 100.0 * five / total);
}

TEST(ClassificationEvaluator, ASampleSeenTwiceCountsOnce) {
  ClassificationEvaluator evaluator;
  evaluator.reset();
  evaluator.process(labels({0, 1}, {7, 8}), predictions({{1, 0}, {1, 0}}));
  evaluator.process(labels({1}, {8}), predictions({{1, 0}}));
  const Dict results = evaluator.evaluate();
  EXPECT_EQ(metric(results, "num_samples"), 2);
  EXPECT_EQ(metric(results, "accuracy"), 50);
}

TEST(ClassificationEvaluator, ResetForgetsAndTheTaskIsTheOption) {
  ClassificationEvaluator evaluator({.task = "fashion"});
  evaluator.process(labels({0}), predictions({{0, 1}}));
  evaluator.reset();
  evaluator.process(labels({1}), predictions({{0, 1}}));
  EXPECT_EQ(evaluator.evaluate().at("fashion").as_dict().at("accuracy").as_double(), 100);
}

TEST(ClassificationEvaluator, CountsOverRanksAndAnswersOnTheMainProcess) {
  ClassificationEvaluator main({.group = std::make_shared<FakeGroup>(0, 3)});
  main.process(labels({0, 1}), predictions({{1, 0}, {1, 0}}));
  EXPECT_EQ(metric(main.evaluate(), "num_samples"), 6);
  ClassificationEvaluator other({.group = std::make_shared<FakeGroup>(1, 3)});
  other.process(labels({0}), predictions({{1, 0}}));
  EXPECT_TRUE(other.evaluate().empty());
}

TEST(ClassificationEvaluator, EachClassAndTheConfusionMatrix) {
  const TemporaryFolder folder;
  ClassificationEvaluator evaluator({.class_names = {"cat", "dog, \"wolf\"", "owl"}, .output_dir = folder / "a/b"});
  EXPECT_FALSE(evaluator.confusion_matrix().defined());
  evaluator.process(labels({0, 0, 0, 1}), predictions({{1, 0, 0}, {0, 1, 0}, {.5, .1, .2}, {0, 0, 1}}));
  const Dict results = evaluator.evaluate();
  EXPECT_DOUBLE_EQ(metric(results, "accuracy-cat"), 200.0 / 3);
  EXPECT_EQ(metric(results, "accuracy-dog, \"wolf\""), 0);
  EXPECT_FALSE(results.at("classification").as_dict().contains("accuracy-owl"));
  EXPECT_TRUE(evaluator.confusion_matrix().equal(at::tensor({2, 1, 0, 0, 0, 1, 0, 0, 0}, at::kLong).view({3, 3})));
  EXPECT_EQ(read_text(folder / "a/b/confusion_matrix.csv"),
            "true class,cat,\"dog, \"\"wolf\"\"\",owl\ncat,2,1,0\n\"dog, \"\"wolf\"\"\",0,0,1\nowl,0,0,0\n");

  ClassificationEvaluator without({.per_class = false, .output_dir = folder / "a/b/confusion_matrix.csv"});
  without.process(labels({0}), predictions({{1, 0}}));
  EXPECT_THROW(without.evaluate(), IoError);
  ClassificationEvaluator numbered({.per_class = false});
  numbered.process(labels({0}), predictions({{1, 0}}));
  EXPECT_FALSE(numbered.evaluate().at("classification").as_dict().contains("accuracy-0"));
}

TEST(ClassificationEvaluator, CalibrationErrorByHand) {
  // Two bins. (0.5, 1]: confidences 0.75 and 1, one of two right; [0, 0.5]: 0.5, right; 0.25 is in there with four classes.
  ClassificationEvaluator evaluator({.calibration_bins = 2});
  evaluator.process(labels({0, 0, 0, 3}), predictions({{.75, .25, 0, 0}, {0, 1, 0, 0}, {.5, .5, 0, 0}, {.25, .25, .25, .25}}));
  // |1 - 1.75| + |1 - 0.75|, of four samples
  EXPECT_DOUBLE_EQ(metric(evaluator.evaluate(), "calibration_error"), 100 * (0.75 + 0.25) / 4);
  ClassificationEvaluator fine({.calibration_bins = 4});
  fine.process(labels({0, 0, 0, 3}), predictions({{.75, .25, 0, 0}, {0, 1, 0, 0}, {.5, .5, 0, 0}, {.25, .25, .25, .25}}));
  EXPECT_DOUBLE_EQ(metric(fine.evaluate(), "calibration_error"), 100 * (0.25 + 1 + 0.5 + 0.25) / 4);

  ClassificationEvaluator none({.calibration_bins = 0});
  none.process(labels({0}), predictions({{1, 0}}));
  EXPECT_FALSE(none.evaluate().at("classification").as_dict().contains("calibration_error"));
  ClassificationEvaluator logits;
  logits.process(labels({0, 0}), predictions({{1, 0}, {3, -2}}));
  EXPECT_FALSE(logits.evaluate().at("classification").as_dict().contains("calibration_error"));
  EXPECT_THROW(ClassificationEvaluator({.calibration_bins = -1}), ConfigError);
}

RC_GTEST_PROP(ClassificationEvaluatorProperties, NoMatterHowSamplesAreSpread, ()) {
  const auto samples = *rc::gen::inRange<std::size_t>(1, 20);
  std::vector<std::vector<double>> scores;
  std::vector<std::int64_t> truth;
  for (std::size_t i = 0; i < samples; ++i) {
    std::vector<double> row;
    for (int c = 0; c < 6; ++c) row.push_back(*rc::gen::inRange(0, 100) / 99.0);
    scores.push_back(row);
    truth.push_back(*rc::gen::inRange<std::int64_t>(0, 6));
  }
  const auto judge = [&](DatasetEvaluator& evaluator, const std::vector<std::int64_t>& ids) {
    std::vector<std::vector<double>> own;
    std::vector<std::int64_t> own_truth;
    for (std::int64_t id : ids) {
      own.push_back(scores[static_cast<std::size_t>(id)]);
      own_truth.push_back(truth[static_cast<std::size_t>(id)]);
    }
    evaluator.process(labels(own_truth, ids), predictions(own));
  };
  const auto make = [](std::shared_ptr<Group> group) {
    return std::make_unique<ClassificationEvaluator>(ClassificationEvaluatorOptions{.group = std::move(group)});
  };
  const Dict alone = spread_over_ranks(1, samples, make, judge);
  RC_ASSERT(metric(alone, "num_samples") == static_cast<double>(samples));
  RC_ASSERT(alone.at("classification").as_dict().contains("calibration_error"));
  for (int ranks : {2, 4}) RC_ASSERT(identical(Value(spread_over_ranks(ranks, samples, make, judge)), Value(alone)));
}

TEST(ClassificationEvaluator, AScoreThatIsNoNumberIsNeverRight) {
  const double nan = std::numeric_limits<double>::quiet_NaN();
  ClassificationEvaluator evaluator;
  evaluator.process(labels({0, 1}), predictions({{nan, nan, nan, nan, nan, nan}, {0, nan, 0, 0, 0, 0}}));
  const Dict results = evaluator.evaluate();
  EXPECT_EQ(metric(results, "accuracy"), 0);
  EXPECT_EQ(metric(results, "top5_accuracy"), 0);
  EXPECT_EQ(evaluator.confusion_matrix().sum().item<std::int64_t>(), 1);  // nothing was predicted for the other
  EXPECT_EQ(evaluator.confusion_matrix()[1][0].item<std::int64_t>(), 1);
}

TEST(ClassificationEvaluator, BadInputIsNamed) {
  ClassificationEvaluator evaluator;
  EXPECT_THROW(evaluator.process(labels({2}), predictions({{0, 1}})), FormatError);
  EXPECT_THROW(evaluator.process(labels({-1}), predictions({{0, 1}})), FormatError);
  EXPECT_THROW(evaluator.process(labels({0}), List{Dict{{"boxes", 1}}}), FormatError);
  EXPECT_THROW(evaluator.process(Batch(Dict{{"x", at::tensor({1})}}), predictions({{0, 1}})), FormatError);
  const auto with_labels = [](const at::Tensor& tensor) { return Batch(Dict{{"label", tensor}}); };
  EXPECT_THROW(evaluator.process(with_labels(at::tensor({0, 1, 1, 0}).view({2, 2})), predictions({{0, 1}, {1, 0}})), FormatError);
  EXPECT_THROW(evaluator.process(labels({0}), predictions({{0, 1}, {1, 0}})), FormatError);
  EXPECT_THROW(evaluator.process(labels({0}), List{Dict{{"scores", at::tensor({0., 1.}).view({1, 2})}}}), FormatError);
  EXPECT_THROW(evaluator.evaluate(), FormatError);
  evaluator.reset();
  evaluator.process(labels({2}), predictions({{0, 1, 0}}));
  EXPECT_THROW(evaluator.process(labels({1}), predictions({{0, 1}})), FormatError);
  evaluator.process(with_labels(at::tensor({1}).view({1, 1})), predictions({{0, 1, 0}}));
  EXPECT_EQ(metric(evaluator.evaluate(), "accuracy"), 50);
}

}  // namespace
}  // namespace treadle

// Evaluators on real processes: the results are the same bits for any number of ranks, and right.
#include "tests/support/ranks.hpp"

#include <treadle/base/log.hpp>
#include <treadle/data/batch_source.hpp>
#include <treadle/data/build.hpp>
#include <treadle/engine/trainer_base.hpp>
#include <treadle/evaluation.hpp>
#include <treadle/hooks/eval_hook.hpp>
#include <treadle/models/make_model.hpp>

#include <ATen/ops/arange.h>
#include <ATen/ops/log_softmax.h>
#include <ATen/ops/tensor.h>
#include <gtest/gtest.h>

#include <cmath>
#include <cstdio>

namespace treadle {
namespace {

constexpr std::int64_t kSamples = 13, kClasses = 6;
constexpr double kMean = 0.25;  // of the buffer on rank 0

double feature(std::int64_t sample, std::int64_t column) {
  return static_cast<float>(std::sin(0.7 * static_cast<double>(sample * kClasses + column)));
}
std::int64_t label(std::int64_t sample) { return sample % kClasses; }
double target(std::int64_t sample) { return static_cast<float>(0.1 * static_cast<double>(sample)); }

struct Net final : torch::nn::Module {
  explicit Net(double mean_value) { mean = register_buffer("mean", torch::full({kClasses}, mean_value)); }
  at::Tensor forward(const at::Tensor& x) { return at::log_softmax((x - mean).square() * 3, 1); }
  torch::Tensor mean;
};

std::shared_ptr<Model> model_with(double mean) {
  return make_model(
      std::make_shared<Net>(mean),
      [](auto& net, const Batch& batch) -> LossDict {
        const at::Tensor own = net->forward(batch.tensor("x")).gather(1, batch.tensor("label").unsqueeze(1));
        return {{"loss_cls", -own.mean()}};
      },
      [](auto& net, const Batch& batch) {
        List predictions;
        for (const at::Tensor& row : net->forward(batch.tensor("x")).exp().unbind(0))
          predictions.push_back(Dict{{"scores", row}, {"value", row[0]}});
        return predictions;
      });
}

std::shared_ptr<const Dataset> samples() {
  std::vector<double> x, targets;
  std::vector<std::int64_t> labels;
  for (std::int64_t sample = 0; sample < kSamples; ++sample) {
    for (std::int64_t column = 0; column < kClasses; ++column) x.push_back(feature(sample, column));
    labels.push_back(label(sample));
    targets.push_back(target(sample));
  }
  return std::make_shared<TensorDataset>(Dict{{"x", at::tensor(x, at::kFloat).view({kSamples, kClasses})},
                                              {"label", at::tensor(labels, at::kLong)},
                                              {"target", at::tensor(targets, at::kFloat)}});
}

/// Samples dealt in turn, with the first ones once more where they do not suffice for equally many on all ranks.
std::unique_ptr<BatchSource> padded_source(const Group& group) {
  const std::int64_t ranks = group.get_world_size(), of_each = (kSamples + ranks - 1) / ranks;
  std::vector<Batch> batches;
  for (std::int64_t i = 0; i < of_each; i += 3) {
    std::vector<std::int64_t> ids;
    for (std::int64_t j = i; j < std::min(i + 3, of_each); ++j) ids.push_back((j * ranks + group.get_rank()) % kSamples);
    batches.emplace_back(*samples()->get_batch(ids), ids);
  }
  return make_batch_source(std::move(batches));
}

std::unique_ptr<BatchSource> source_for(const std::shared_ptr<Group>& group, bool padded) {
  if (padded) return padded_source(*group);
  return build_test_loader(samples(), {.batch_size = 3, .num_workers = 1}, group);
}

std::unique_ptr<DatasetEvaluator> all_evaluators(const std::shared_ptr<Group>& group) {
  std::vector<std::unique_ptr<DatasetEvaluator>> list;
  list.push_back(std::make_unique<ClassificationEvaluator>(ClassificationEvaluatorOptions{.group = group}));
  list.push_back(std::make_unique<RegressionEvaluator>(RegressionEvaluatorOptions{.group = group}));
  list.push_back(std::make_unique<LossEvaluator>(LossEvaluatorOptions{.task = "one", .group = group, .one_by_one = true}));
  list.push_back(std::make_unique<LossEvaluator>(LossEvaluatorOptions{.group = group}));
  return std::make_unique<DatasetEvaluators>(std::move(list));
}

struct NoSteps final : TrainerBase {
  explicit NoSteps(std::shared_ptr<Group> group) : TrainerBase({.group = std::move(group), .events = {}}) {}
  void run_step() override {}
};

/// What an evaluation at the end of a run gives on the main process: a line for each result, its number exactly.
std::string evaluate(Group& borrowed, bool padded) {
  const LogCapture quiet([](LogLevel, std::string_view) {});
  const std::shared_ptr<Group> group(std::shared_ptr<Group>(), &borrowed);
  // Every rank has statistics of its own, as after training.
  const std::shared_ptr<Model> model = model_with(group->is_main_process() ? kMean : 7.0 + group->get_rank());
  const std::unique_ptr<BatchSource> source = source_for(group, padded);
  const std::unique_ptr<DatasetEvaluator> evaluator = all_evaluators(group);
  Dict results;
  NoSteps trainer(group);
  std::vector<std::unique_ptr<HookBase>> list;
  list.push_back(
      std::make_unique<hooks::EvalHook>([&] { return results = inference_on_dataset(*model, *source, *evaluator, *group); },
                                        hooks::EvalHookOptions{.model = model.get()}));
  trainer.register_hooks(std::move(list));
  trainer.train(0, 1);
  std::string text;
  for (const auto& [name, value] : flatten_results_dict(results)) {
    // A mean over batches depends on which samples stand together: in its last bits, and with one that was there before by what
    // that one adds.
    const bool rounded = name == "loss/loss_cls" || name == "loss/total_loss";
    if (rounded && padded) continue;
    char line[128];
    std::snprintf(line, sizeof line, rounded ? "%s %.5f\n" : "%s %a\n", name.c_str(), value);
    text += line;
  }
  return text;
}

/// The number behind `name` in a text that `evaluate` gave.
double number(const std::string& text, const std::string& name) {
  const std::size_t at = ("\n" + text).find("\n" + name + " ");
  if (at == std::string::npos) throw std::runtime_error("no result " + name + " in " + text);
  return std::strtod(text.c_str() + at + name.size(), nullptr);
}

TEST(EvaluatorsOnRanks, ResultsAreThoseOfOneProcessAndRight) {
  const auto alone_on = [](bool padded) {
    return run_ranks(1, [&](Group& group) { return evaluate(group, padded); }).front().said;
  };
  for (const bool padded : {false, true}) {
    const std::string alone = alone_on(padded);
    for (const int ranks : {2, 4}) {
      const auto results = run_ranks(ranks, [&](Group& group) { return evaluate(group, padded); });
      for (const RankResult& result : results) EXPECT_EQ(result.status, 0) << result.said;
      EXPECT_EQ(results.front().said, alone) << ranks << padded;
      for (std::size_t rank = 1; rank < results.size(); ++rank) EXPECT_EQ(results[rank].said, "") << "the main process has them";
    }
  }

  const std::string alone = alone_on(/*padded=*/false);
  double right = 0, error = 0, loss = 0;
  for (std::int64_t sample = 0; sample < kSamples; ++sample) {
    double sum = 0, best = -1, first = 0, own = 0;
    std::int64_t predicted = -1;
    for (std::int64_t column = 0; column < kClasses; ++column) {
      const double score = std::exp(3 * std::pow(feature(sample, column) - kMean, 2));
      sum += score;
      if (score > best) {
        best = score;
        predicted = column;
      }
      if (column == 0) first = score;
      if (column == label(sample)) own = score;
    }
    right += predicted == label(sample);
    error += std::abs(first / sum - target(sample));
    loss -= std::log(own / sum);
  }
  EXPECT_DOUBLE_EQ(number(alone, "classification/accuracy"), 100 * right / kSamples);
  EXPECT_GT(right, 0);
  EXPECT_EQ(number(alone, "classification/num_samples"), kSamples);
  EXPECT_NEAR(number(alone, "regression/mae"), error / kSamples, 1e-6);
  EXPECT_NEAR(number(alone, "one/loss_cls"), loss / kSamples, 1e-5);
  EXPECT_NEAR(number(alone, "loss/loss_cls"), loss / kSamples, 2e-5);
}

}  // namespace
}  // namespace treadle

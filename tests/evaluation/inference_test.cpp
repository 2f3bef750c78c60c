#include <treadle/base/errors.hpp>
#include <treadle/base/log.hpp>
#include <treadle/comm.hpp>
#include <treadle/data/batch_source.hpp>
#include <treadle/evaluation.hpp>
#include <treadle/models/make_model.hpp>

#include <ATen/ops/arange.h>
#include <ATen/ops/full.h>
#include <gtest/gtest.h>
#include <torch/nn/modules/dropout.h>

#include <algorithm>

namespace treadle {
namespace {

struct Net final : torch::nn::Module {
  Net() {
    w = register_parameter("w", torch::ones({1}));
    dropout = register_module("dropout", torch::nn::Dropout(0.5));
  }
  torch::Tensor w;
  torch::nn::Dropout dropout{nullptr};
};

/// Sums what it is given.
struct Sum final : DatasetEvaluator {
  double sum = 0;
  int resets = 0, batches = 0;
  void reset() override {
    ++resets;
    sum = 0;
  }
  void process(const Batch&, const List& outputs) override {
    ++batches;
    for (const Value& output : outputs) sum += output.as_dict().at("y").as_tensor().item<double>();
  }
  Dict evaluate() override { return {{"sum", Dict{{"value", sum}}}}; }
};

struct Inference : testing::Test {
  LogCapture quiet{[](LogLevel, std::string_view) {}};
  std::shared_ptr<Net> net = std::make_shared<Net>();
  std::shared_ptr<Group> group = make_single_process_group();
  bool gradients = true, training = true;
  std::int64_t drop = 0;
  std::shared_ptr<Model> model = make_model(
      net, [](auto&, const Batch&) -> LossDict { return {}; },
      [this](auto& n, const Batch& batch) {
        gradients = (n->w * 2).requires_grad();
        training = n->dropout->is_training();
        List list;
        for (const auto& x : batch.tensor("x").slice(0, drop).unbind(0)) list.push_back(Dict{{"y", x * n->w}});
        return list;
      });
  std::unique_ptr<BatchSource> source = make_batch_source(
      std::vector<Batch>{Batch(Dict{{"x", at::arange(1, 4).to(at::kFloat)}}), Batch(Dict{{"x", at::full({2}, 10.0f)}})});
};

TEST_F(Inference, GoesThroughOnePassInEvaluationModeWithoutGradients) {
  model->train();
  net->dropout->eval();
  Sum sum;
  source->next();  // a pass under way is left
  EXPECT_EQ(inference_on_dataset(*model, *source, sum, *group).at("sum").as_dict().at("value").as_double(), 26);
  EXPECT_EQ(inference_on_dataset(*model, *source, sum, *group).at("sum").as_dict().at("value").as_double(), 26);
  EXPECT_EQ(sum.resets, 2);
  EXPECT_EQ(sum.batches, 4);
  EXPECT_FALSE(gradients);
  EXPECT_FALSE(training);
  EXPECT_TRUE(model->is_training());
  EXPECT_TRUE(net->is_training());
  EXPECT_FALSE(net->dropout->is_training());
}

TEST_F(Inference, AWrongNumberOfPredictionsIsAnErrorAndTheModeComesBack) {
  model->train();
  drop = 1;
  Sum sum;
  EXPECT_THROW(inference_on_dataset(*model, *source, sum, *group), FormatError);
  EXPECT_TRUE(net->dropout->is_training());
}

/// Seven batches of two samples. Each takes 3 s to load, 5 s to predict and 7 s to judge; the first takes 100 s more everywhere.
struct TimedInference : Inference {
  double now = 1000;
  int batches = 0;
  std::vector<std::string> lines;
  LogCapture capture{[this](LogLevel, std::string_view line) { lines.emplace_back(line); }};
  std::optional<std::int64_t> length = 7;

  struct Slow final : DatasetEvaluator {
    explicit Slow(TimedInference& timed) : test(timed) {}
    TimedInference& test;
    void reset() override {}
    void process(const Batch&, const List&) override { test.now += test.batches == 1 ? 107 : 7; }
    Dict evaluate() override { return {}; }
  };

  InferenceTimes run(InferenceOptions options, int count = 7) {
    batches = 0;
    const std::shared_ptr<Model> slow = make_model(
        net, [](auto&, const Batch&) -> LossDict { return {}; },
        [this](auto&, const Batch&) {
          now += batches == 1 ? 105 : 5;
          return List{Dict{}, Dict{}};
        });
    const auto next = [&]() -> std::optional<Batch> {
      if (batches == count) return std::nullopt;
      ++batches;
      now += batches == 1 ? 103 : 3;
      return Batch(Dict{{"x", at::full({2}, 1.0f)}});
    };
    const auto source_of_seven = make_batch_source(next, {.batches_per_pass = length, .rewind = [] {}});
    InferenceTimes times;
    options.times = &times;
    options.clock = [this] { return now; };
    Slow evaluator(*this);
    inference_on_dataset(*slow, *source_of_seven, evaluator, *group, options);
    return times;
  }
};

TEST_F(TimedInference, TheWarmUpIsNotTimed) {
  const InferenceTimes times = run({.warmup_batches = 2});
  EXPECT_EQ(times.batches, 5);
  EXPECT_EQ(times.samples, 10);
  EXPECT_DOUBLE_EQ(times.data, 4 * 3);  // the wait for the first of them belongs to the warm-up
  EXPECT_DOUBLE_EQ(times.compute, 5 * 5);
  EXPECT_DOUBLE_EQ(times.evaluation, 5 * 7);
  EXPECT_DOUBLE_EQ(times.total, 5 * 15 - 3);
  EXPECT_EQ(run({}).batches, 2);
  EXPECT_EQ(run({.warmup_batches = 50}).batches, 1);
  EXPECT_DOUBLE_EQ(run({.warmup_batches = 0}).compute, 7 * 5 + 100);
  length.reset();
  EXPECT_EQ(run({.warmup_batches = 50}).batches, 7);
  EXPECT_EQ(run({.warmup_batches = 2}).batches, 5);
}

TEST_F(TimedInference, ProgressTellsSecondsPerSampleAndTheTimeLeft) {
  run({.warmup_batches = 2, .report_seconds = 40});
  const auto with = [&](const std::string& part) {
    return std::count_if(lines.begin(), lines.end(), [&](const auto& line) { return line.find(part) != std::string::npos; });
  };
  // A line is due 40 s after the one before: with the first batch (315 s), then every third.
  EXPECT_EQ(with("Inference done "), 3) << lines.size();
  EXPECT_EQ(
      with("Inference done 4/7. Dataloading: 0.750000 s/sample. Inference: 2.500000 s/sample. Eval: 3.500000 s/sample. Total: "
           "6.750000 s/sample. ETA=0:00:40"),
      1)
      << lines[1];
  EXPECT_EQ(with("Total inference time: 0:01:12 (10 samples after warm-up, on 1 process)"), 1) << lines.back();
  lines.clear();
  run({.report_seconds = 1000});
  EXPECT_EQ(with("Inference done "), 0);
  EXPECT_THROW(validate(InferenceOptions{.warmup_batches = -1}), ConfigError);
  EXPECT_THROW(validate(InferenceOptions{.report_seconds = 0}), ConfigError);
}

TEST_F(Inference, SeveralEvaluatorsActAsOne) {
  struct Other final : DatasetEvaluator {
    Model* model = nullptr;
    void set_model(Model& given) override { model = &given; }
    void reset() override {}
    void process(const Batch&, const List&) override {}
    Dict evaluate() override { return {{"other", Dict{{"value", 1}}}}; }
  };
  std::vector<std::unique_ptr<DatasetEvaluator>> list;
  list.push_back(std::make_unique<Sum>());
  list.push_back(std::make_unique<Other>());
  const auto& other = static_cast<const Other&>(*list.back());
  DatasetEvaluators both(std::move(list));
  const Dict results = inference_on_dataset(*model, *source, both, *group);
  EXPECT_EQ(results.at("sum").as_dict().at("value").as_double(), 26);
  EXPECT_EQ(results.at("other").as_dict().at("value").as_int(), 1);
  EXPECT_EQ(other.model, model.get());

  std::vector<std::unique_ptr<DatasetEvaluator>> twice;
  twice.push_back(std::make_unique<Other>());
  twice.push_back(std::make_unique<Other>());
  EXPECT_THROW(DatasetEvaluators(std::move(twice)).evaluate(), Error);
}

}  // namespace
}  // namespace treadle

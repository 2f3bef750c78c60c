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

TEST_F(Inference, SeveralEvaluatorsActAsOne) {
  struct Other final : DatasetEvaluator {
    void reset() override {}
    void process(const Batch&, const List&) override {}
    Dict evaluate() override { return {{"other", Dict{{"value", 1}}}}; }
  };
  std::vector<std::unique_ptr<DatasetEvaluator>> list;
  list.push_back(std::make_unique<Sum>());
  list.push_back(std::make_unique<Other>());
  DatasetEvaluators both(std::move(list));
  const Dict results = inference_on_dataset(*model, *source, both, *group);
  EXPECT_EQ(results.at("sum").as_dict().at("value").as_double(), 26);
  EXPECT_EQ(results.at("other").as_dict().at("value").as_int(), 1);

  std::vector<std::unique_ptr<DatasetEvaluator>> twice;
  twice.push_back(std::make_unique<Other>());
  twice.push_back(std::make_unique<Other>());
  EXPECT_THROW(DatasetEvaluators(std::move(twice)).evaluate(), Error);
}

}  // namespace
}  // namespace treadle

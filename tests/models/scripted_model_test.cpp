// With files that Python exports when the test runs.
#include <tests/support/process.hpp>
#include <tests/support/source_folder.hpp>
#include <tests/support/temporary_folder.hpp>
#include <treadle/base/errors.hpp>
#include <treadle/base/module_state.hpp>
#include <treadle/models.hpp>

#include <ATen/ops/allclose.h>
#include <ATen/ops/cross_entropy_loss.h>
#include <ATen/ops/mse_loss.h>
#include <ATen/ops/zeros.h>
#include <gtest/gtest.h>
#include <torch/optim/sgd.h>

namespace treadle {
namespace {

namespace fs = std::filesystem;
using Loss = ScriptedModelOptions::Loss;

struct ScriptedModels : testing::Test {
  static inline const TemporaryFolder* folder = nullptr;
  static inline std::string problem;

  static void SetUpTestSuite() {
    folder = new TemporaryFolder;
    const fs::path root = source_folder();
    const fs::path python = root / ".venv/bin/python";
    if (!fs::exists(python)) {
      problem = python.string() + " is absent: there is no Python to export a script";
      return;
    }
    const ProcessResult result =
        run_process({python.string(), (root / "tests/models/make_scripts.py").string(), folder->path().string()});
    if (result.status != 0) problem = "Python failed: " + result.err;
  }
  static void TearDownTestSuite() { delete folder; }
  void SetUp() override {
    if (problem.starts_with("Python")) FAIL() << problem;
    if (!problem.empty()) GTEST_SKIP() << problem;
    data = module_state_dict(ScriptedModel({.file = *folder / "data.pt"}));
  }

  Dict data;
  at::Tensor tensor(const char* name) const { return data.at(name).as_tensor(); }
  Batch batch() const { return Batch(Dict{{"x", tensor("x")}, {"y", tensor("y")}}); }
  static ScriptedModelOptions options(Loss loss = Loss::cross_entropy) {
    return {.file = *folder / "net.pt", .inputs = {"x"}, .loss = loss, .target = "y", .loss_inputs = {"x", "y"}};
  }
};

TEST_F(ScriptedModels, ParametersAndBuffersHavePythonsNames) {
  ScriptedModel model(options());
  std::vector<std::string> names;
  for (const auto& entry : module_state_dict(model)) names.push_back(entry.key.string());
  EXPECT_EQ(names, (std::vector<std::string>{"scale", "body.0.weight", "body.0.bias", "body.1.weight", "body.1.bias",
                                             "body.1.running_mean", "body.1.running_var", "body.1.num_batches_tracked",
                                             "head.weight", "head.bias"}));
  EXPECT_FALSE(model.named_parameters()["scale"].requires_grad());
  EXPECT_TRUE(model.named_parameters()["head.bias"].requires_grad());
}

TEST_F(ScriptedModels, TrainsAsPythonDoes) {
  ScriptedModel model(options(Loss::method));
  model.train();
  std::vector<at::Tensor> parameters;
  for (const at::Tensor& parameter : model.parameters()) {
    if (parameter.requires_grad()) parameters.push_back(parameter);
  }
  torch::optim::SGD optimizer(parameters, torch::optim::SGDOptions(0.1).momentum(0.9));
  for (std::int64_t i = 0; i < 20; ++i) {
    optimizer.zero_grad();
    const LossDict losses = model.losses(batch());
    ASSERT_EQ(losses.size(), 2u);
    EXPECT_EQ(losses[0].first, "a_cls");
    EXPECT_EQ(losses[1].first, "b_norm");
    const at::Tensor total = losses[0].second + losses[1].second;
    EXPECT_NEAR(total.item<double>(), tensor("losses")[i].item<double>(), 1e-5) << i;
    total.backward();
    optimizer.step();
  }
  const Dict own = module_state_dict(model), python = module_state_dict(ScriptedModel({.file = *folder / "trained.pt"}));
  for (const auto& [name, value] : python)
    EXPECT_TRUE(at::allclose(own.at(name).as_tensor(), value.as_tensor(), 1e-4, 1e-5)) << name.to_string();
  EXPECT_EQ(own.at("body.1.num_batches_tracked").as_tensor().item<std::int64_t>(), 20);
}

TEST_F(ScriptedModels, ModeAndTypeReachTheScript) {
  ScriptedModel model(options());
  EXPECT_TRUE(model.is_training());
  model.eval();
  EXPECT_FALSE(model.is_training());
  const List predictions = model.predict(batch());
  ASSERT_EQ(predictions.size(), 16u);
  const at::Tensor expected = tensor("out").softmax(1);
  for (std::int64_t i = 0; i < 16; ++i)
    EXPECT_TRUE(
        at::allclose(predictions[static_cast<std::size_t>(i)].as_dict().at("scores").as_tensor(), expected[i], 1e-5, 1e-6));
  model.to(torch::kDouble);
  const List doubles = model.predict(Batch(Dict{{"x", tensor("x").to(at::kDouble)}}));
  EXPECT_EQ(doubles[0].as_dict().at("scores").as_tensor().scalar_type(), at::kDouble);
}

TEST_F(ScriptedModels, LossesAreThoseOfTheOptions) {
  const auto loss = [&](Loss kind, const char* method, const Batch& given) {
    ScriptedModelOptions chosen = options(kind);
    chosen.loss_method = method;
    ScriptedModel model(chosen);
    model.eval();
    const LossDict losses = model.losses(given);
    EXPECT_EQ(losses.front().first, kind == Loss::method && std::string(method) == "losses" ? "a_cls" : "loss");
    return losses.front().second.item<double>();
  };
  const double expected = at::cross_entropy_loss(tensor("out"), tensor("y")).item<double>();
  EXPECT_NEAR(loss(Loss::cross_entropy, "losses", batch()), expected, 1e-5);
  EXPECT_NEAR(loss(Loss::method, "total", batch()), expected, 1e-5);
  EXPECT_NEAR(loss(Loss::method, "losses", batch()), expected, 1e-5);
  const at::Tensor wanted = tensor("out") + 2;
  EXPECT_NEAR(loss(Loss::mse, "losses", Batch(Dict{{"x", tensor("x")}, {"y", wanted}})), 4, 1e-5);
}

// The output is [16, 3]: everything else would be stretched to some shape.
TEST_F(ScriptedModels, MseTakesATargetOfTheShapeOfTheOutputAlone) {
  ScriptedModel model(options(Loss::mse));
  for (const at::Tensor& target : {at::zeros({3}), at::zeros({16, 1}), at::zeros({16, 16, 3}), at::zeros({})})
    EXPECT_THROW(model.losses(Batch(Dict{{"x", tensor("x")}, {"y", target}})), FormatError) << describe(target);
}

TEST_F(ScriptedModels, PredictionsAreThoseOfTheOptions) {
  ScriptedModelOptions chosen = options();
  chosen.prediction = "value";
  chosen.softmax = false;
  ScriptedModel plain(chosen);
  plain.eval();
  EXPECT_TRUE(at::allclose(plain.predict(batch())[3].as_dict().at("value").as_tensor(), tensor("out")[3], 1e-5, 1e-6));
  ScriptedModel two({.file = *folder / "two.pt", .inputs = {"x"}});
  const Dict one = two.predict(batch())[2].as_dict();
  EXPECT_TRUE(one.at("double").as_tensor().equal(2 * tensor("x")[2]));
  EXPECT_TRUE(one.at("first").as_tensor().equal(tensor("x")[2][0]));
  EXPECT_THROW(two.losses(batch()), FormatError);
}

TEST_F(ScriptedModels, BadFilesAndOptionsAreNamed) {
  EXPECT_THROW(ScriptedModel({}), ConfigError);
  EXPECT_THROW(ScriptedModel({.file = *folder / "absent.pt"}), IoError);
  EXPECT_THROW(ScriptedModel({.file = folder->path()}), IoError);
  try {
    ScriptedModel({.file = *folder / "foreign.pt"});
    ADD_FAILURE() << "an unknown operator was taken";
  } catch (const FormatError& error) {
    const std::string said = error.what();
    EXPECT_EQ(error.file(), fs::path(*folder / "foreign.pt"));
    EXPECT_NE(said.find("treadle_test::halve"), std::string::npos) << said;
    EXPECT_EQ(said.find('\n'), std::string::npos) << said;
  }
  write_text(*folder / "text.pt", "not a script");
  EXPECT_THROW(ScriptedModel({.file = *folder / "text.pt"}), FormatError);
  EXPECT_THROW(validate(ScriptedModelOptions{.file = "a", .inputs = {}}), ConfigError);
  EXPECT_THROW(validate(ScriptedModelOptions{.file = "a", .prediction = ""}), ConfigError);
  EXPECT_THROW(validate(ScriptedModelOptions{.file = "a", .loss = Loss::method, .loss_method = ""}), ConfigError);
  ScriptedModelOptions wrong = options(Loss::method);
  wrong.loss_method = "nothing";
  EXPECT_THROW(ScriptedModel{wrong}, FormatError);
  wrong.loss_method = "words";
  EXPECT_THROW(ScriptedModel(wrong).losses(batch()), FormatError);
  EXPECT_THROW(ScriptedModel(options()).losses(Batch(Dict{{"y", tensor("y")}})), FormatError);
}

}  // namespace
}  // namespace treadle

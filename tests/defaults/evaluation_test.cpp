// What the config says about evaluation has its effect in a run.
#include <tests/defaults/tiny_run.hpp>
#include <tests/support/fake_group.hpp>
#include <treadle/base/device.hpp>
#include <treadle/base/errors.hpp>
#include <treadle/base/log.hpp>
#include <treadle/checkpoint/file.hpp>
#include <treadle/defaults.hpp>
#include <treadle/evaluation/evaluator_registry.hpp>
#include <treadle/models/model.hpp>

#include <ATen/Context.h>
#include <ATen/ops/tensor.h>
#include <gtest/gtest.h>

#include <algorithm>

namespace treadle {
namespace {

struct Evaluation : testing::Test {
  TinyRun run;
  TemporaryFolder output;
  std::vector<std::string> logs;
  LogCapture capture{[this](LogLevel, std::string_view line) { logs.emplace_back(line); }};

  std::string problem(const std::vector<std::string>& settings) {
    try {
      DefaultTrainer(run.config(output / "run", settings), nullptr);
    } catch (const ConfigError& error) {
      return error.what();
    }
    return "none";
  }
  bool logged(const std::string& part) const {
    return std::ranges::any_of(logs, [&](const std::string& line) { return line.find(part) != std::string::npos; });
  }
};

TEST_F(Evaluation, ACompleteRunIsVerifiedAgainstExpectedResults) {
  DefaultTrainer good(run.config(output / "good", {"TEST.EXPECTED_RESULTS", "[['classification', 'num_samples', 64, 0]]"}),
                      nullptr);
  good.train();
  EXPECT_TRUE(logged("Results verification passed."));
  DefaultTrainer bad(run.config(output / "bad", {"TEST.EXPECTED_RESULTS", "[('classification', 'num_samples', 65, 0.5)]"}),
                     nullptr);
  EXPECT_THROW(bad.train(), Error);
  EXPECT_TRUE(std::filesystem::exists(output / "bad/model_final.pth"));
  DefaultTrainer stopped(run.config(output / "stopped", {"TEST.EXPECTED_RESULTS", "[['nothing', 'at all', 1, 0]]"}), nullptr);
  stopped.request_stop("a test");
  stopped.train();
  for (const char* rows : {"[1]", "[['a', 'b', 1]]", "[['a', 'b', 'c', 1]]", "[['a', 'b', 1, -1]]"})
    EXPECT_NE(problem({"TEST.EXPECTED_RESULTS", rows}).find("TEST.EXPECTED_RESULTS is "), std::string::npos) << rows;
  EXPECT_NE(problem({"DATASETS.TEST", "()", "TEST.EXPECTED_RESULTS", "[['a', 'b', 1, 0]]"}).find("DATASETS.TEST is empty"),
            std::string::npos);
}

TEST_F(Evaluation, EvaluatorsAreThoseOfTheConfig) {
  DefaultTrainer trainer(run.config(output / "run", {"TREADLE.EVALUATORS", "['ClassificationEvaluator', 'LossEvaluator']"}),
                         nullptr);
  const Dict results = trainer.test();
  const Dict &loss = results.at("loss").as_dict(), &classes = results.at("classification").as_dict();
  EXPECT_EQ(loss.at("num_samples").as_int(), 64);
  EXPECT_GT(loss.at("loss_cls").as_double(), 0);
  EXPECT_EQ(loss.at("total_loss").as_double(), loss.at("loss_cls").as_double());
  EXPECT_TRUE(classes.contains("accuracy-Ankle boot"));
  const std::string matrix = read_text(output / "run/inference/fashion_mnist_test/confusion_matrix.csv");
  EXPECT_EQ(lines_of(matrix).size(), 11u);

  const std::string unknown = problem({"TREADLE.EVALUATORS", "['LosEvaluator']"});
  for (const char* part : {"TREADLE.EVALUATORS", "command line", "did you mean \"LossEvaluator\"", "\"RegressionEvaluator\""})
    EXPECT_NE(unknown.find(part), std::string::npos) << unknown;
  EXPECT_NE(problem({"TREADLE.EVALUATORS", "()"}).find("at least one"), std::string::npos);
}

TEST_F(Evaluation, WeightsAreEvaluatedWithoutATrainer) {
  const std::vector<std::string> by_loss = {"TREADLE.EVALUATORS", "['LossEvaluator']"};
  const auto total_loss = [](const Dict& results) { return results.at("loss").as_dict().at("total_loss").as_double(); };
  const auto evaluate = [&](std::vector<std::string> settings, bool resume) {
    settings.insert(settings.end(), by_loss.begin(), by_loss.end());
    return total_loss(evaluate_weights(run.config(output / "run", settings), nullptr, resume));
  };
  EXPECT_THROW(evaluate({}, false), ConfigError);
  EXPECT_THROW(evaluate({}, true), ConfigError);
  DefaultTrainer trainer(run.config(output / "run", by_loss), nullptr);
  const double untrained = total_loss(trainer.test());
  const double trained = total_loss(trainer.train());
  ASSERT_NE(trained, untrained);
  EXPECT_EQ(evaluate({"MODEL.WEIGHTS", output / "run/model_final.pth"}, false), trained);
  EXPECT_EQ(evaluate({}, true), trained);
  EXPECT_THROW(evaluate({}, false), ConfigError);
  EXPECT_THROW(evaluate({"MODEL.WEIGHTS", output / "run/model_final.pth", "DATASETS.TEST", "()"}, false), ConfigError);
}

TEST_F(Evaluation, TheMainProcessKnowsWhetherThereIsACheckpoint) {
  DefaultTrainer(run.config(output / "main"), nullptr).train();
  // Rank 1 stands on a machine with an OUTPUT_DIR of its own, in which nothing was saved, and gets what rank 0 read.
  const auto group = std::make_shared<FakeGroup>(1, 2);
  group->play_broadcast = [&](const Value& own) -> Value {
    if (own.is(Value::Type::boolean)) return true;
    if (own.is(Value::Type::string)) return output / "main/model_final.pth";
    return load_checkpoint_file(output / "main/model_final.pth");
  };
  group->play_all_gather = [](const Value& own) { return own.is(Value::Type::boolean) ? List{true, false} : List{own, own}; };
  EXPECT_TRUE(evaluate_weights(run.config(output / "elsewhere"), group, /*resume=*/true).empty());
}

TEST_F(Evaluation, TheClassesOfAFolderHaveItsNames) {
  for (const char* name : {"ant", "bee"}) std::filesystem::create_directories(output / (std::string("pictures/") + name));
  const Config config = run.config(output / "run", {"TREADLE.DATA_DIR", output.path()});
  const auto evaluator = default_builders().evaluator(config, "image_folder:pictures", nullptr);
  evaluator->reset();
  evaluator->process(Batch(Dict{{"label", at::tensor({1}, at::kLong)}}), List{Dict{{"scores", at::tensor({0.25, 0.75})}}});
  const Dict results = evaluator->evaluate().at("classification").as_dict();
  EXPECT_EQ(results.at("accuracy-bee").as_double(), 100);

  DefaultTrainer trainer(run.config(output / "run", {"SOLVER.MAX_ITER", "1", "SOLVER.WARMUP_ITERS", "0", "DATASETS.TEST", "()"}),
                         nullptr);
  trainer.train();
  const DefaultPredictor predictor(
      run.config(output / "run", {"MODEL.WEIGHTS", output / "run/model_final.pth", "TREADLE.DATA_DIR", output.path(),
                                  "DATASETS.TEST", "('image_folder:pictures',)"}));
  EXPECT_EQ(predictor.metadata().class_names, (std::vector<std::string>{"ant", "bee"}));
}

TEST_F(Evaluation, ATesterWithoutAGroupIsOneProcess) {
  const Config config = run.config(output / "run");
  Tester tester(config, nullptr, default_builders());
  const auto model = default_builders().model(config);
  EXPECT_EQ(tester.test(*model).at("classification").as_dict().at("num_samples").as_int(), 64);
}

TEST_F(Evaluation, SeveralDataSetsAreTestedOneByOne) {
  DefaultTrainer trainer(run.config(output / "run", {"DATASETS.TEST", "('fashion_mnist_test', 'fashion_mnist_train')"}), nullptr);
  const Dict results = trainer.test();
  EXPECT_EQ(results.at("fashion_mnist_test").as_dict().at("classification").as_dict().at("num_samples").as_int(), 64);
  EXPECT_EQ(results.at("fashion_mnist_train").as_dict().at("classification").as_dict().at("num_samples").as_int(), 256);
  EXPECT_TRUE(identical(Value(results), Value(trainer.last_results())));
}

TEST_F(Evaluation, ARunIsScaledToItsRanks) {
  const Config config = run.config(output / "run", {"SOLVER.REFERENCE_WORLD_SIZE", "2", "DATASETS.TEST", "()"});
  DefaultTrainer trainer(config, nullptr);
  EXPECT_EQ(trainer.config().get_int("SOLVER.IMS_PER_BATCH"), 8);
  EXPECT_DOUBLE_EQ(trainer.config().get_double("SOLVER.BASE_LR"), 0.025);
  EXPECT_EQ(trainer.config().get_int("SOLVER.MAX_ITER"), 24);
  EXPECT_EQ(trainer.config().get_int("SOLVER.REFERENCE_WORLD_SIZE"), 1);
  EXPECT_TRUE(trainer.config().frozen());
  EXPECT_EQ(config.get_int("SOLVER.IMS_PER_BATCH"), 16);
  EXPECT_NE(problem({"SOLVER.REFERENCE_WORLD_SIZE", "3"}).find("SOLVER.REFERENCE_WORLD_SIZE is 3"), std::string::npos);
}

struct Numerics : Evaluation {
  std::shared_ptr<Group> group = make_single_process_group();
  void setup(const std::vector<std::string>& settings) { default_setup(run.config(output / "run", settings), *group); }
  void TearDown() override {
    setup({"FLOAT32_PRECISION", "highest"});
    configure_log({});
  }
};

TEST_F(Numerics, AlgorithmsAndPrecisionAreThoseOfTheConfig) {
  at::Context& context = at::globalContext();
  setup({});
  EXPECT_FALSE(context.deterministicAlgorithms());
  EXPECT_EQ(context.float32MatmulPrecision(), at::Float32MatmulPrecision::HIGHEST);
  // Without an accelerator the precision is never touched.
  using enum at::Float32MatmulPrecision;
  const auto here = [](at::Float32MatmulPrecision precision) { return accelerator_count() > 0 ? precision : HIGHEST; };
  setup({"TREADLE.DETERMINISTIC", "True", "FLOAT32_PRECISION", "high"});
  EXPECT_TRUE(context.deterministicAlgorithms());
  EXPECT_FALSE(context.deterministicAlgorithmsWarnOnly());
  EXPECT_TRUE(context.deterministicCuDNN());
  EXPECT_EQ(context.float32MatmulPrecision(), here(HIGH));
  setup({"FLOAT32_PRECISION", "medium", "CUDNN_BENCHMARK", "True"});
  EXPECT_FALSE(context.deterministicAlgorithms());
  EXPECT_TRUE(context.benchmarkCuDNN());
  EXPECT_EQ(context.float32MatmulPrecision(), here(MEDIUM));
  setup({});
  EXPECT_EQ(context.float32MatmulPrecision(), here(MEDIUM));  // as it was
  EXPECT_FALSE(context.benchmarkCuDNN());
  EXPECT_THROW(setup({"FLOAT32_PRECISION", "low"}), ConfigError);
  EXPECT_THROW(setup({"TREADLE.DETERMINISTIC", "True", "CUDNN_BENCHMARK", "True"}), ConfigError);
}

TEST(TestLoader, EachRankTakesItsShareOfABatch) {
  const TinyRun run;
  const Config config = run.config("unused");
  const auto samples = [&](int ranks) {
    const auto source =
        default_builders().test_loader(config, "fashion_mnist_test", std::make_shared<FakeGroup>(ranks - 1, ranks));
    return source->next()->tensor("label").size(0);
  };
  EXPECT_EQ(samples(1), 16);
  EXPECT_EQ(samples(3), 5);
  EXPECT_EQ(samples(32), 1);
}

TEST(EnvironmentReport, NamesEveryPart) {
  const std::vector<std::string> lines = lines_of(environment_report());
  for (const std::string name : {"treadle", "LibTorch", "compiler", "system", "CPU", "threads", "memory", "devices"}) {
    EXPECT_TRUE(std::ranges::any_of(lines, [&](const std::string& line) {
      return line.starts_with(name + " ") && line.find_first_not_of(' ', 15) == 15;
    })) << name;
  }
  EXPECT_NE(environment_report().find("commit "), std::string::npos);
  EXPECT_NE(environment_report().find(__VERSION__), std::string::npos);
}

}  // namespace
}  // namespace treadle

// Every key that asks for a hook has its effect in a run.
#include <tests/defaults/tiny_run.hpp>
#include <treadle/base/errors.hpp>
#include <treadle/base/log.hpp>
#include <treadle/base/rng.hpp>
#include <treadle/checkpoint/file.hpp>
#include <treadle/defaults.hpp>
#include <treadle/evaluation/evaluator.hpp>
#include <treadle/models/model.hpp>

#include <ATen/ops/equal.h>
#include <gtest/gtest.h>

#include <algorithm>

namespace treadle {
namespace {

namespace fs = std::filesystem;
using Settings = std::vector<std::string>;

const char* const kWeight = "backbone.output.weight";
const char* const kMean = "backbone.norm1.running_mean";

struct DefaultHooks : testing::Test {
  TinyRun run;
  TemporaryFolder output;
  LogCapture quiet{[](LogLevel, std::string_view) {}};

  /// The model of `folder`/model_final.pth after a run with these settings.
  Dict train(const std::string& folder, const Settings& settings) {
    seed_everything(11);
    DefaultTrainer trainer(run.config(output / folder, settings), nullptr);
    trainer.train();
    return model_in(folder + "/model_final.pth");
  }
  Value load(const std::string& file) const { return load_checkpoint_file(output / file); }
  Dict model_in(const std::string& file) const { return load(file).as_dict().at("model").as_dict(); }
};

bool same(const Dict& a, const Dict& b, const std::string& name) {
  return at::equal(a.at(name).as_tensor(), b.at(name).as_tensor());
}

TEST_F(DefaultHooks, StandInDetectron2sOrder) {
  const DefaultTrainer trainer(
      run.config(output / ".", {"TEST.PRECISE_BN.ENABLED", "True", "TREADLE.EMA.ENABLED", "True",
                                "TREADLE.BEST_CHECKPOINT.METRIC", "a", "TREADLE.EARLY_STOPPING.METRIC", "b"}),
      nullptr);
  EXPECT_EQ(trainer.hook_keys(),
            (Settings{"IterationTimer", "LRScheduler", "PreciseBN", "EmaHook", "PeriodicCheckpointer", "EvalHook",
                      "BestCheckpointer", "EarlyStopping", "PeriodicWriter", "PeriodicWriter#2"}));
}

TEST_F(DefaultHooks, PreciseStatisticsReplaceTheMovingAverages) {
  // Only in the last iteration, so that nothing else differs.
  const Settings common = {"TEST.EVAL_PERIOD", "0"};
  Settings precise = common;
  precise.insert(precise.end(), {"TEST.PRECISE_BN.ENABLED", "True", "TEST.PRECISE_BN.NUM_ITER", "4"});
  const Dict without = train("without", common), with = train("with", precise);
  EXPECT_TRUE(same(without, with, kWeight));
  EXPECT_FALSE(same(without, with, kMean));
  precise.back() = "3";
  EXPECT_FALSE(same(train("fewer", precise), with, kMean));
}

/// Notes a weight of the model that is evaluated.
struct WeightSpy final : DatasetEvaluator {
  explicit WeightSpy(std::function<void()> look) : look_(std::move(look)) {}
  void reset() override {}
  void process(const Batch&, const List&) override { look_(); }
  Dict evaluate() override { return {{"own", Dict{{"value", 4}}}}; }
  std::function<void()> look_;
};

TEST_F(DefaultHooks, AveragedWeightsAreEvaluatedAndSavedAsTheBest) {
  DefaultTrainer* trainer = nullptr;
  at::Tensor seen;
  Builders builders = default_builders();
  builders.evaluator = [&](const Config&, const std::string&, std::shared_ptr<Group>) {
    return std::make_unique<WeightSpy>([&] { seen = trainer->model().named_parameters()[kWeight].detach().clone(); });
  };
  DefaultTrainer made(run.config(output / ".", {"TREADLE.EMA.ENABLED", "True", "TREADLE.EMA.DECAY", "0.5",
                                                "TREADLE.BEST_CHECKPOINT.METRIC", "own/value", "TEST.EVAL_PERIOD", "0"}),
                      nullptr, builders);
  trainer = &made;
  made.train();
  const Value final = load("model_final.pth");
  const at::Tensor average = final.as_dict()
                                 .at("trainer")
                                 .as_dict()
                                 .at("hooks")
                                 .as_dict()
                                 .at("EmaHook")
                                 .as_dict()
                                 .at("averages")
                                 .as_dict()
                                 .at(kWeight)
                                 .as_tensor();
  EXPECT_TRUE(at::equal(seen, average));
  EXPECT_TRUE(at::equal(model_in("model_best.pth").at(kWeight).as_tensor(), average));
  EXPECT_FALSE(at::equal(model_in("model_final.pth").at(kWeight).as_tensor(), average));
  EXPECT_EQ(read_text(output / "last_checkpoint"), "model_final.pth");
}

TEST_F(DefaultHooks, TheBestIsSavedAtTheEvaluationThatScoredIt) {
  double score = 0;
  Builders builders = default_builders();
  struct Falling final : DatasetEvaluator {
    explicit Falling(double& score) : score_(score) {}
    void reset() override {}
    void process(const Batch&, const List&) override {}
    Dict evaluate() override { return {{"own", Dict{{"value", score_ -= 1}}}}; }
    double& score_;
  };
  builders.evaluator = [&](const Config&, const std::string&, std::shared_ptr<Group>) {
    return std::make_unique<Falling>(score);
  };
  for (const auto& [mode, iteration] : {std::pair{"max", 3}, std::pair{"min", 12}}) {
    DefaultTrainer trainer(run.config(output / mode, {"TREADLE.BEST_CHECKPOINT.METRIC", "own/value",
                                                      "TREADLE.BEST_CHECKPOINT.MODE", mode, "TEST.EVAL_PERIOD", "4"}),
                           nullptr, builders);
    trainer.train();
    EXPECT_EQ(load(std::string(mode) + "/model_best.pth").as_dict().at("iteration").as_int(), iteration) << mode;
  }
}

TEST_F(DefaultHooks, ARunThatDoesNotImproveStopsEarly) {
  // No loss is better than the first by so much.
  DefaultTrainer trainer(
      run.config(output / ".", {"TREADLE.EARLY_STOPPING.METRIC", "total_loss", "TREADLE.EARLY_STOPPING.MODE", "min",
                                "TREADLE.EARLY_STOPPING.MIN_DELTA", "1000.0", "TREADLE.EARLY_STOPPING.PATIENCE", "6"}),
      nullptr);
  trainer.train();
  EXPECT_EQ(trainer.outcome(), Outcome::stopped);
  EXPECT_EQ(trainer.iter(), 7);
  EXPECT_EQ(read_text(output / "last_checkpoint"), "model_0000006.pth");
}

TEST_F(DefaultHooks, TheAveragesAreSavedAtTheEnd) {
  const Dict final = train("ema", {"TREADLE.EMA.ENABLED", "True", "TREADLE.EMA.DECAY", "0.5"});
  const Value file = load("ema/model_ema.pth");
  const Dict averages =
      load("ema/model_final.pth").as_dict().at("trainer").as_dict().at("hooks").as_dict().at("EmaHook").as_dict();
  EXPECT_TRUE(same(file.as_dict().at("model").as_dict(), averages.at("averages").as_dict(), kWeight));
  EXPECT_FALSE(same(file.as_dict().at("model").as_dict(), final, kWeight));
  EXPECT_FALSE(file.as_dict().contains("trainer"));
  EXPECT_EQ(read_text(output / "ema/last_checkpoint"), "model_final.pth");
  train("plain", {});
  EXPECT_FALSE(fs::exists(output / "plain/model_ema.pth"));
}

TEST_F(DefaultHooks, MeasureTheStepsThatAreAskedFor) {
  std::vector<std::string> lines;
  const LogCapture capture([&](LogLevel, std::string_view line) { lines.emplace_back(line); });
  train("measured", {"TREADLE.PROFILER.START", "4", "TREADLE.PROFILER.STEPS", "2", "TREADLE.MEMORY_STATS.PERIOD", "6"});
  EXPECT_TRUE(fs::exists(output / "measured/profiler-trace-iter5.json"));
  const auto memory = std::count_if(lines.begin(), lines.end(),
                                    [](const std::string& line) { return line.find("allocated_mem: ") != std::string::npos; });
  EXPECT_EQ(memory, 2);
  const DefaultTrainer without(run.config(output / "without", {}), nullptr);
  for (const std::string& key : without.hook_keys()) EXPECT_TRUE(key != "TorchProfiler" && key != "TorchMemoryStats") << key;
  EXPECT_THROW(train("wrong", {"TREADLE.PROFILER.START", "4", "TREADLE.PROFILER.STEPS", "0"}), ConfigError);
  EXPECT_THROW(train("wrong", {"TREADLE.MEMORY_STATS.PERIOD", "-1"}), ConfigError);
}

}  // namespace
}  // namespace treadle

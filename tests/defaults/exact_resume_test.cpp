// A run that is resumed from any of its checkpoints ends with the same bits as one that was never stopped.
#include <tests/defaults/tiny_run.hpp>
#include <treadle/base/log.hpp>
#include <treadle/base/rng.hpp>
#include <treadle/checkpoint/file.hpp>
#include <treadle/defaults.hpp>
#include <treadle/hooks/callback_hook.hpp>

#include <ATen/Parallel.h>
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include <set>

namespace treadle {
namespace {

namespace fs = std::filesystem;

// Wall-clock keys: the only ones that may differ.
const std::set<std::string> kClockKeys = {"time", "data_time", "rank_data_time", "eta_seconds"};

std::vector<nlohmann::json> metrics_without_clock(const fs::path& folder) {
  std::vector<nlohmann::json> lines;
  for (const std::string& line : lines_of(read_text(folder / "metrics.json"))) {
    nlohmann::json object = nlohmann::json::parse(line);
    for (const std::string& key : kClockKeys) object.erase(key);
    lines.push_back(object);
  }
  return lines;
}

/// What must be equal of a checkpoint: all but histories of clock values and what the writers know of their files.
Value comparable(const fs::path& file) {
  Value value = load_checkpoint_file(file);
  Dict& checkpoint = value.as_dict();
  checkpoint.at("treadle").as_dict().erase("events");
  checkpoint.at("trainer").as_dict().at("hooks").as_dict().erase("PeriodicWriter");
  return value;
}

struct ExactResume : testing::Test {
  TinyRun run;
  TemporaryFolder output;
  LogCapture quiet{[](LogLevel, std::string_view) {}};
  void SetUp() override { at::set_num_threads(1); }

  std::vector<std::string> settings = {
      "SOLVER.CHECKPOINT_PERIOD", "1", "SOLVER.MAX_ITER", "47", "TEST.EVAL_PERIOD", "7", "SEED", "11"};

  void train(const fs::path& folder, bool resume, const std::function<void(DefaultTrainer&)>& prepare = [](DefaultTrainer&) {}) {
    seed_everything(resume ? 999 : 11);
    DefaultTrainer trainer(run.config(folder.string(), settings), nullptr);
    prepare(trainer);
    trainer.resume_or_load(resume);
    trainer.train();
  }

  void expect_same(const fs::path& whole, const fs::path& resumed, const std::string& what) {
    EXPECT_TRUE(identical(comparable(whole / "model_final.pth"), comparable(resumed / "model_final.pth"))) << what;
    EXPECT_EQ(metrics_without_clock(whole), metrics_without_clock(resumed)) << what;
  }
};

TEST_F(ExactResume, FromACheckpointOfAnyIterationAfterAKill) {
  const fs::path whole = output.path() / "whole";
  train(whole, false);
  ASSERT_EQ(metrics_without_clock(whole).size(),
            10u);  // periods end at 19, 39, 46; evaluations at 6, 13, 20, 27, 34, 41 and the end
  for (const int iteration : {0, 5, 6, 7, 18, 19, 20, 38, 45, 46}) {
    // The killed run had written further than its last checkpoint: all its files are there.
    const fs::path resumed = output.path() / "resumed";
    fs::remove_all(resumed);
    fs::copy(whole, resumed);
    char name[32];
    std::snprintf(name, sizeof name, "model_%07d.pth", iteration);
    write_text(resumed / "last_checkpoint", name);
    train(resumed, true);
    expect_same(whole, resumed, name);
  }
}

TEST_F(ExactResume, WithEveryHookThatHasAState) {
  settings = {"SOLVER.CHECKPOINT_PERIOD",
              "1",
              "SOLVER.MAX_ITER",
              "16",
              "TEST.EVAL_PERIOD",
              "5",
              "SEED",
              "11",
              "TEST.PRECISE_BN.ENABLED",
              "True",
              "TEST.PRECISE_BN.NUM_ITER",
              "2",
              "TREADLE.EMA.ENABLED",
              "True",
              "TREADLE.EMA.DECAY",
              "0.5",
              "TREADLE.EMA.PERIOD",
              "2",
              "TREADLE.BEST_CHECKPOINT.METRIC",
              "classification/accuracy",
              "TREADLE.EARLY_STOPPING.METRIC",
              "total_loss",
              "TREADLE.EARLY_STOPPING.MODE",
              "min",
              "TREADLE.EARLY_STOPPING.PATIENCE",
              "100"};
  const fs::path whole = output.path() / "whole", resumed = output.path() / "resumed";
  train(whole, false);
  for (const int iteration : {2, 4, 5, 9, 14}) {
    fs::remove_all(resumed);
    fs::copy(whole, resumed);
    fs::remove(resumed / "model_best.pth");
    char name[32];
    std::snprintf(name, sizeof name, "model_%07d.pth", iteration);
    write_text(resumed / "last_checkpoint", name);
    train(resumed, true);
    expect_same(whole, resumed, name);
  }
}

TEST_F(ExactResume, AfterAStopAtAnyIteration) {
  settings[1] = "1000";
  const fs::path whole = output.path() / "whole";
  train(whole, false);
  for (const int iteration : {0, 6, 12, 19, 30, 45}) {
    const fs::path stopped = output.path() / ("stopped" + std::to_string(iteration));
    train(stopped, false, [&](DefaultTrainer& trainer) {
      trainer.add_hook<hooks::CallbackHook>(hooks::Callbacks{.after_step = [iteration](TrainerBase& t) {
        if (t.iter() == iteration) t.request_stop("test");
      }});
    });
    train(stopped, true);
    expect_same(whole, stopped, "stopped at " + std::to_string(iteration));
  }
}

TEST_F(ExactResume, WithAnotherNumberOfWorkers) {
  settings[1] = "20";
  const fs::path whole = output.path() / "whole", resumed = output.path() / "resumed";
  train(whole, false);
  fs::copy(whole, resumed);
  write_text(resumed / "last_checkpoint", "model_0000019.pth");
  settings.insert(settings.end(), {"DATALOADER.NUM_WORKERS", "3"});
  train(resumed, true);
  expect_same(whole, resumed, "3 workers");
}

}  // namespace
}  // namespace treadle

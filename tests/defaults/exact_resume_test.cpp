// A run that is resumed from any of its checkpoints ends with the same bits as one that was never stopped.
// The run with everything on is stopped at 12 iterations; at more by tools/stress.py.
#include <tests/defaults/tiny_run.hpp>
#include <tests/support/clock_keys.hpp>
#include <tests/support/metrics_file.hpp>
#include <tests/support/process.hpp>
#include <tests/support/trials.hpp>
#include <treadle/base/errors.hpp>
#include <treadle/base/log.hpp>
#include <treadle/base/rng.hpp>
#include <treadle/checkpoint/file.hpp>
#include <treadle/defaults.hpp>
#include <treadle/hooks/callback_hook.hpp>

#include <ATen/Parallel.h>
#include <gtest/gtest.h>

#include <cstdlib>

namespace treadle {
namespace {

namespace fs = std::filesystem;

/// What must be equal of a checkpoint: all but histories of clock values and what the writers know of their files.
Value comparable(const fs::path& file) {
  Value value = load_checkpoint_file(file);
  Dict& checkpoint = value.as_dict();
  checkpoint.at("treadle").as_dict().erase("begun");
  Dict& events = checkpoint.at("treadle").as_dict().at("events").as_dict();
  for (const char* key : kClockKeys) events.at("scalars").as_dict().erase(key);
  checkpoint.at("trainer").as_dict().at("treadle_hooks").as_dict().erase("PeriodicWriter");
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

TEST_F(ExactResume, InTheTrainerThatHasTrained) {
  settings[1] = "20";
  const fs::path whole = output.path() / "whole", again = output.path() / "again";
  train(whole, false);
  seed_everything(11);
  DefaultTrainer trainer(run.config(again.string(), settings), nullptr);
  trainer.train();
  write_text(again / "last_checkpoint", "model_0000019.pth");
  trainer.resume_or_load(true);
  EXPECT_EQ(trainer.start_iter(), 20);
  trainer.train();
  expect_same(whole, again, "the same trainer");
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

enum class Way { request, exception, kill };

/// Dropout, batch norm and flips are the tiny run's own.
struct EverythingOn : ExactResume {
  EverythingOn() {
    settings = {"SOLVER.CHECKPOINT_PERIOD",
                "4",
                "SOLVER.MAX_ITER",
                "60",
                "TEST.EVAL_PERIOD",
                "11",
                "SEED",
                "11",
                "SOLVER.AMP.ENABLED",
                "True",
                "SOLVER.CLIP_GRADIENTS.ENABLED",
                "True",
                "SOLVER.CLIP_GRADIENTS.CLIP_TYPE",
                "full_model",
                "SOLVER.CLIP_GRADIENTS.CLIP_VALUE",
                "0.5",
                "TREADLE.EMA.ENABLED",
                "True",
                "TREADLE.EMA.DECAY",
                "0.9",
                "TREADLE.EMA.PERIOD",
                "2",
                "TREADLE.DATALOADER.TIMES",
                "True"};
  }

  void train_until(const fs::path& folder, int iteration, Way way) {
    train(folder, false, [=](DefaultTrainer& trainer) {
      trainer.add_hook<hooks::CallbackHook>(hooks::Callbacks{.after_backward =
                                                                 [=](TrainerBase& t) {
                                                                   if (way == Way::exception && t.iter() == iteration)
                                                                     throw Error("stopped by the test");
                                                                 },
                                                             .after_step =
                                                                 [=](TrainerBase& t) {
                                                                   if (t.iter() != iteration) return;
                                                                   if (way == Way::request) t.request_stop("stopped by the test");
                                                                   if (way == Way::kill) kill(getpid(), SIGKILL);
                                                                 }});
    });
  }
};

TEST_F(EverythingOn, StoppedAtAnyIterationAndResumed) {
  const fs::path whole = output.path() / "whole";
  train(whole, false);
  const Value last = load_checkpoint_file(whole / "model_final.pth");
  const Dict& trainer = last.as_dict().at("trainer").as_dict();
  ASSERT_TRUE(trainer.at("hooks").as_dict().contains("EmaHook"));
  ASSERT_GT(trainer.at("_trainer").as_dict().at("grad_scaler").as_dict().size(), 0u);
  Rng random(trial_seed(60));
  for (int trial = 0; trial < trials(12); ++trial) {
    // A checkpoint is there from iteration 3 on; behind the last iteration nothing is left to stop.
    const auto iteration = static_cast<int>(4 + random.below(55));
    const Way way = static_cast<Way>(trial % 3);
    const fs::path stopped = output.path() / ("stopped" + std::to_string(trial));
    if (way == Way::exception) {
      EXPECT_THROW(train_until(stopped, iteration, way), Error);
    } else if (way == Way::request) {
      train_until(stopped, iteration, way);
    } else {
      const ProcessResult killed =
          run_process({"/proc/self/exe", "--gtest_also_run_disabled_tests", "--gtest_filter=EverythingOn.DISABLED_KillsItself"},
                      {{"TREADLE_TEST_FOLDER", stopped.string()}, {"TREADLE_TEST_ITERATION", std::to_string(iteration)}});
      ASSERT_EQ(killed.signal, SIGKILL) << killed.out << killed.err;
    }
    ASSERT_FALSE(fs::exists(stopped / "model_final.pth"));
    train(stopped, true);
    expect_same(whole, stopped, "way " + std::to_string(trial % 3) + " at iteration " + std::to_string(iteration));
  }
}

// The process that the test above starts.
TEST_F(EverythingOn, DISABLED_KillsItself) {
  const char* folder = std::getenv("TREADLE_TEST_FOLDER");
  const char* iteration = std::getenv("TREADLE_TEST_ITERATION");
  if (folder != nullptr && iteration != nullptr) train_until(folder, std::atoi(iteration), Way::kill);
}

}  // namespace
}  // namespace treadle

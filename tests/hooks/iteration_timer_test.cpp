#include <tests/hooks/idle_trainer.hpp>
#include <treadle/base/errors.hpp>
#include <treadle/hooks.hpp>

#include <gtest/gtest.h>

namespace treadle {
namespace {

struct IterationTimerTest : testing::Test {
  IdleTrainer trainer;
  double now = 100;
  double hook_seconds = 0.25;

  void add(std::int64_t warmup) {
    trainer.add_hook<hooks::IterationTimer>(warmup, [this] { return now; });
    trainer.add_hook<hooks::CallbackHook>(hooks::Callbacks{.after_step = [this](TrainerBase&) { now += hook_seconds; }});
    trainer.step = [this] { now += 0.5; };
  }
};

TEST_F(IterationTimerTest, RecordsStepsBehindTheWarmUpAndLogsTheSpeed) {
  add(3);
  trainer.train(0, 8);
  EXPECT_EQ(trainer.storage().count_samples("time", 100), 6);
  EXPECT_EQ(trainer.storage().history("time").latest(), 0.5);
  EXPECT_EQ(trainer.logs, (std::vector<std::string>{"Starting training from iteration 0",
                                                    "Overall training speed: 6 iterations in 0:00:03 (0.5000 s / it)",
                                                    "Total training time: 0:00:04 (0:00:01 on hooks)"}));
}

TEST_F(IterationTimerTest, AShortRunHasNoSpeed) {
  add(3);
  trainer.train(0, 2);
  EXPECT_EQ(trainer.storage().find_history("time"), nullptr);
  EXPECT_EQ(trainer.logs.back(), "Total training time: 0:00:00 (0:00:00 on hooks)");
}

TEST_F(IterationTimerTest, CountsFromTheStartOfThisRun) {
  add(1);
  trainer.train(100, 104);
  EXPECT_EQ(trainer.storage().count_samples("time", 100), 4);
  EXPECT_EQ(trainer.logs.at(1), "Overall training speed: 4 iterations in 0:00:02 (0.5000 s / it)");
}

TEST_F(IterationTimerTest, TheIterationCaughtUpWithIsNotMeasured) {
  add(0);
  trainer.resume_at({.iteration = 4, .after_step_index = -1, .hooks_behind = {"IterationTimer"}}, {});
  trainer.train(5, 6);
  EXPECT_EQ(trainer.storage().count_samples("time", 100), 1);
}

TEST_F(IterationTimerTest, AResumedRunHasNoGapInItsRecord) {
  add(3);
  trainer.storage().put_scalar("time", 0.5, true, 99);
  trainer.train(100, 104);
  EXPECT_EQ(trainer.storage().count_samples("time", 100), 5);
  EXPECT_EQ(trainer.logs.at(1), "Overall training speed: 2 iterations in 0:00:01 (0.5000 s / it)");
}

TEST_F(IterationTimerTest, ANegativeWarmUpIsRefused) { EXPECT_THROW(hooks::IterationTimer(-1), ConfigError); }

}  // namespace
}  // namespace treadle

// Trials: a run is killed with -9 at a random moment, resumed, and ends with the bits of one that was never stopped.
// Two; more by tools/stress.py.
#include <tests/app/command.hpp>
#include <tests/support/metrics_file.hpp>
#include <tests/support/trials.hpp>
#include <treadle/checkpoint/file.hpp>

#include <gtest/gtest.h>

#include <iostream>
#include <random>

namespace treadle {
namespace {

/// All but histories of clock values, and what writers know of their files.
Value comparable(const std::string& file) {
  Value value = load_checkpoint_file(file);
  value.as_dict().at("treadle").as_dict().erase("events");
  value.as_dict().at("treadle").as_dict().erase("begun");
  value.as_dict().at("trainer").as_dict().at("treadle_hooks").as_dict().erase("PeriodicWriter");
  return value;
}

const std::vector<std::string> kSettings = {"SOLVER.MAX_ITER", "60", "SOLVER.CHECKPOINT_PERIOD", "3", "TEST.EVAL_PERIOD", "7"};

TEST(Kill, AtAnyMomentAndResumedEndsInTheSameBits) {
  const Command whole;
  ASSERT_EQ(whole.train(kSettings).status, 0);
  std::mt19937 random(trial_seed());
  for (int trial = 0; trial < trials(2); ++trial) {
    const Command killed;
    // stdout grows with every step's checkpoint and report, so its size stands for the moment.
    const std::size_t moment = 600 + random() % 7000;
    const ProcessResult first = killed.train(kSettings, [&](const std::string& out, pid_t pid) {
      if (out.size() >= moment) kill(pid, SIGKILL);
    });
    std::vector<std::string> again = {"--resume"};
    again.insert(again.end(), kSettings.begin(), kSettings.end());
    const ProcessResult second = killed.train(again);
    ASSERT_EQ(second.status, 0) << "trial " << trial << " killed at " << moment << ": " << second.err << first.out;
    EXPECT_TRUE(identical(comparable(whole.output + "/model_final.pth"), comparable(killed.output + "/model_final.pth")))
        << moment;
    EXPECT_EQ(metrics_without_clock(whole.output), metrics_without_clock(killed.output)) << "killed at " << moment;
  }
}

}  // namespace
}  // namespace treadle

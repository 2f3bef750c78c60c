#include "data/worker_tuner.hpp"

#include <gtest/gtest.h>

namespace treadle {
namespace {

/// Workers after a number of batches of which each had the caller wait for `share` of the time.
int after(WorkerTuner& tuner, int batches, double share) {
  for (int i = 0; i < batches; ++i) tuner.observe(share, 1);
  return tuner.workers();
}

TEST(WorkerTuner, GrowsWhileTheCallerWaitsAndNoFurtherThanAllowed) {
  WorkerTuner tuner(4);
  EXPECT_EQ(tuner.workers(), 1);
  EXPECT_EQ(after(tuner, 15, 0.5), 1) << "one batch says little";
  EXPECT_EQ(after(tuner, 1, 0.5), 2);
  EXPECT_EQ(after(tuner, 16, 0.06), 3);
  EXPECT_EQ(after(tuner, 16, 0.04), 3) << "little enough";
  EXPECT_EQ(after(tuner, 160, 0.9), 4);
}

TEST(WorkerTuner, ShrinksWhenNobodyWaitsAndNeverBelowOne) {
  WorkerTuner tuner(8);
  after(tuner, 48, 0.5);
  EXPECT_EQ(tuner.workers(), 4);
  EXPECT_EQ(after(tuner, 63, 0), 4);
  EXPECT_EQ(after(tuner, 1, 0), 3);
  EXPECT_EQ(after(tuner, 48, 0.02), 3) << "waiting a little starts the count anew";
  EXPECT_EQ(after(tuner, 10'000, 0), 1);
}

TEST(WorkerTuner, LearnsFromALossThatWasWrong) {
  WorkerTuner tuner(8);
  after(tuner, 16, 0.5);
  std::vector<int> calm_batches;
  for (int round = 0; round < 4; ++round) {
    int batches = 0;
    for (; tuner.workers() == 2; ++batches) tuner.observe(0, 1);
    calm_batches.push_back(batches);
    while (tuner.workers() == 1) tuner.observe(0.5, 1);
  }
  EXPECT_EQ(calm_batches, (std::vector<int>{64, 128, 256, 512}));
}

}  // namespace
}  // namespace treadle

// StepWithFixedGammaParamScheduler is not defined in the last millionth of a run, so that a run of more than a million iterations
// failed a few iterations before its end.
#include <treadle/solver/lr_scheduler.hpp>
#include <treadle/solver/optimizer_state.hpp>
#include <treadle/solver/sgd.hpp>

#include <ATen/ops/ones.h>
#include <gtest/gtest.h>

namespace treadle {
namespace {

TEST(Regression, StepsEndedAMillionthBeforeALongRun) {
  constexpr std::int64_t kMaxIter = 4'000'000;
  const ParamScheduler schedule = build_param_scheduler(
      {.name = "WarmupStepWithFixedGammaLR", .max_iter = kMaxIter, .gamma = 0.5, .num_decays = 2, .warmup_iters = 0});
  Sgd sgd({at::ones({1}).set_requires_grad(true)}, {.lr = 1});
  LRMultiplier scheduler(sgd, schedule, {.max_iter = kMaxIter, .last_iter = kMaxIter - 8, .base_lrs = {1.0}});
  for (int k = 0; k < 7; ++k) {
    EXPECT_EQ(group_lrs(sgd).front(), 0.25) << scheduler.last_iter();
    scheduler.step();
  }
  EXPECT_EQ(scheduler.last_iter(), kMaxIter);
  EXPECT_EQ(group_lrs(sgd).front(), 0.25);
}

}  // namespace
}  // namespace treadle

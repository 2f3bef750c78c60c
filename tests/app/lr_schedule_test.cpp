#include <app/lr_schedule.hpp>
#include <treadle/base/errors.hpp>
#include <treadle/base/log.hpp>

#include <gtest/gtest.h>

#include <cmath>
#include <numbers>
#include <set>

namespace treadle {
namespace {

using Iterations = std::vector<std::int64_t>;

LRSchedulerOptions cosine(std::int64_t max_iter, std::int64_t warmup_iters = 0) {
  return {.name = "WarmupCosineLR", .max_iter = max_iter, .base_lr = 0.25, .steps = {}, .warmup_iters = warmup_iters};
}

LRSchedulerOptions multi_step(std::int64_t max_iter, std::vector<double> steps, std::int64_t warmup_iters = 0) {
  return {.max_iter = max_iter, .steps = std::move(steps), .warmup_iters = warmup_iters};
}

Iterations keys(const std::map<std::int64_t, std::string>& rows) {
  Iterations iterations;
  for (const auto& [iteration, note] : rows) iterations.push_back(iteration);
  return iterations;
}

Iterations noted(const std::map<std::int64_t, std::string>& rows, const std::string& text) {
  Iterations iterations;
  for (const auto& [iteration, note] : rows) {
    if (note.find(text) != std::string::npos) iterations.push_back(iteration);
  }
  return iterations;
}

/// Every iteration from `begin` on that has another factor than the one before it: what a search must find, found by looking at
/// all.
Iterations all_changes(const LRSchedule& schedule, std::int64_t begin) {
  Iterations iterations;
  for (std::int64_t i = std::max<std::int64_t>(begin, 1); i < schedule.max_iter(); ++i) {
    if (schedule.factor(i) != schedule.factor(i - 1)) iterations.push_back(i);
  }
  return iterations;
}

TEST(LRSchedule, ValuesAreThoseOfTheFormula) {
  const LRSchedule schedule(cosine(1000));
  for (const std::int64_t i : {0, 1, 333, 500, 999}) {
    const double progress = static_cast<double>(i) / 1000;
    EXPECT_EQ(schedule.progress(i), progress);
    EXPECT_EQ(schedule.factor(i), 0.5 * (1 + std::cos(std::numbers::pi * progress)));
    EXPECT_EQ(schedule.lr(i), 0.25 * (0.5 * (1 + std::cos(std::numbers::pi * progress))));
  }
}

TEST(LRSchedule, RowsAreEvenlySpacedAndRound) {
  const LRSchedule round(cosine(40000));
  EXPECT_EQ(round.evenly_spaced(5), (Iterations{0, 10000, 20000, 30000, 39999}));
  EXPECT_EQ(round.evenly_spaced(2), (Iterations{0, 39999}));
  EXPECT_EQ(round.evenly_spaced(1), (Iterations{0}));
  for (const std::int64_t max_iter : {1, 2, 3, 30, 997}) {
    for (std::int64_t count = 1; count < 40; ++count) {
      const Iterations iterations = LRSchedule(cosine(max_iter)).evenly_spaced(count);
      ASSERT_EQ(iterations.size(), static_cast<std::size_t>(std::min(count, max_iter)));
      EXPECT_EQ(iterations.front(), 0);
      EXPECT_EQ(iterations.back(), count > 1 ? max_iter - 1 : 0);
      for (std::size_t i = 1; i < iterations.size(); ++i) {
        const double gap = static_cast<double>(iterations[i] - iterations[i - 1]);
        const double even = static_cast<double>(max_iter) / static_cast<double>(iterations.size() - 1);
        EXPECT_GE(gap, 1);
        EXPECT_LE(std::abs(gap - even), 1.0 + 1e-9) << max_iter << " in " << count;
      }
    }
  }
}

TEST(LRSchedule, WithoutAnythingSpecialTheRowsAreTheEvenOnesAndTheEnd) {
  const LRSchedule schedule(cosine(100));
  EXPECT_EQ(keys(schedule.rows(5)), (Iterations{0, 25, 50, 75, 99}));
  EXPECT_EQ(keys(schedule.rows(1)), (Iterations{0, 99}));
  EXPECT_EQ(keys(LRSchedule(cosine(1)).rows(10)), (Iterations{0}));
  EXPECT_EQ(schedule.rows(5).at(99), "last iteration");
  EXPECT_EQ(schedule.rows(5).at(50), "");
}

TEST(LRSchedule, EachDecayStandsWithTheIterationBeforeIt) {
  const LRSchedule schedule(multi_step(40000, {30000, 35000}, 1000));
  EXPECT_EQ(keys(schedule.rows(1)), (Iterations{0, 1000, 29999, 30000, 34999, 35000, 39999}));
  EXPECT_EQ(noted(schedule.rows(7), "decay"), (Iterations{30000, 35000}));
  EXPECT_EQ(noted(schedule.rows(7), "warm-up is over"), (Iterations{1000}));
}

TEST(LRSchedule, EveryDecayIsFoundAndNothingElse) {
  std::vector<LRSchedulerOptions> all = {
      multi_step(30, {10, 11, 12, 13}),
      multi_step(30, {29}),
      multi_step(1000, {333.5, 700}, 100),
      multi_step(1000, {50, 700}, 100),  // the first one during the warm-up
      multi_step(2000000, {1000000, 1500000}, 5000),
      multi_step(500, {}, 20),
  };
  for (const bool rescale : {true, false}) {
    for (const WarmupMethod method : {WarmupMethod::linear, WarmupMethod::constant}) {
      LRSchedulerOptions options = multi_step(1000, {300, 800}, 77);
      options.rescale_interval = rescale;
      options.warmup_method = method;
      all.push_back(options);
      options.name = "WarmupStepWithFixedGammaLR";
      all.push_back(options);
    }
  }
  for (const LRSchedulerOptions& options : all) {
    const LRSchedule schedule(options);
    const auto rows = schedule.rows(1);
    const Iterations ends = noted(rows, "warm-up is over");
    const std::int64_t warmed_up = ends.empty() ? 0 : ends.front();
    EXPECT_EQ(ends.empty(), options.warmup_iters == 0);
    const Iterations decays = noted(rows, "decay");
    EXPECT_EQ(decays, all_changes(schedule, warmed_up + 1)) << options.name << " of " << options.max_iter;
    for (const std::int64_t decay : decays) EXPECT_TRUE(rows.contains(decay - 1));
  }
}

TEST(LRSchedule, AConstantWarmupEndsWithAStep) {
  LRSchedulerOptions options = multi_step(1000, {600}, 100);
  options.warmup_method = WarmupMethod::constant;
  const LRSchedule schedule(options);
  EXPECT_EQ(keys(schedule.rows(1)), (Iterations{0, 99, 100, 599, 600, 999}));
  EXPECT_EQ(schedule.factor(99), options.warmup_factor);
  EXPECT_EQ(schedule.factor(100), 1);

  // In a long run the tolerance of progress ends it earlier; the row stands where the rate changes.
  options.max_iter = 4000000;
  options.steps = {};
  const LRSchedule longer(options);
  const Iterations end = noted(longer.rows(1), "warm-up is over");
  ASSERT_EQ(end.size(), 1u);
  EXPECT_LT(end[0], 100);
  EXPECT_EQ(longer.factor(end[0]), 1);
  EXPECT_EQ(longer.factor(end[0] - 1), options.warmup_factor);
}

TEST(LRSchedule, TheDecayAfterAStablePartIsFound) {
  LRSchedulerOptions options = cosine(1000, 50);
  options.name = "WarmupStableDecayLR";
  options.decay_iters = 200;
  const LRSchedule schedule(options);
  const Iterations decays = noted(schedule.rows(1), "decay");
  ASSERT_EQ(decays.size(), 1u);
  EXPECT_EQ(decays[0], all_changes(schedule, 51).front());
  EXPECT_NEAR(static_cast<double>(decays[0]), 800, 1);
}

TEST(LRSchedule, AWarmupOfTheWholeRunHasNoEnd) { EXPECT_EQ(keys(LRSchedule(cosine(100, 100)).rows(1)), (Iterations{0, 99})); }

TEST(LRSchedule, WhatIsIllegalIsAnErrorAndStepsBehindTheEndAWarning) {
  EXPECT_THROW(LRSchedule(cosine(10, 11)), ConfigError);
  std::vector<std::string> warnings;
  const LogCapture capture([&](LogLevel level, std::string_view message) {
    if (level == LogLevel::warning) warnings.emplace_back(message);
  });
  const LRSchedule schedule(multi_step(100, {50, 200}));
  EXPECT_EQ(warnings.size(), 1u);
  EXPECT_EQ(noted(schedule.rows(3), "decay"), (Iterations{50}));
}

}  // namespace
}  // namespace treadle

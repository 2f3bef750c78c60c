#include <tests/hooks/idle_trainer.hpp>
#include <treadle/base/errors.hpp>
#include <treadle/hooks.hpp>

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>

namespace treadle {
namespace {

using hooks::EarlyStopping;
using hooks::EarlyStoppingOptions;
using hooks::MetricMode;

/// A run whose iteration i records `values[i]`, unless that is a hole.
struct EarlyStoppingTest : testing::Test {
  IdleTrainer trainer;
  std::vector<std::optional<double>> values;
  EarlyStopping& add(EarlyStoppingOptions options) {
    options.metric = "score";
    trainer.step = [this] {
      const auto i = static_cast<std::size_t>(trainer.iter());
      if (i < values.size() && values[i]) trainer.storage().put_scalar("score", *values[i], false);
    };
    return trainer.add_hook<EarlyStopping>(std::move(options));
  }
  /// The number of iterations that the run made.
  std::int64_t run(std::int64_t max_iter = 20) {
    trainer.train(trainer.start_iter(), max_iter);
    return trainer.iter();
  }
};

TEST_F(EarlyStoppingTest, StopsAfterSoManyValuesWithoutImprovement) {
  values = {1, 2, 1, 2, 3, 3, 1, 2, 9, 9, 9};
  add({.patience = 3});
  EXPECT_EQ(run(), 8);
  EXPECT_EQ(trainer.outcome(), Outcome::stopped);
  EXPECT_EQ(trainer.stop_reason(), "score has not improved in 3 values (best: 3.00000 of iteration 4)");
}

TEST_F(EarlyStoppingTest, PatienceIsCountedInValuesNotInIterations) {
  values = {1, {}, {}, {}, 1, {}, {}, 2, {}, {}, {}, 0, {}, {}, 1};
  add({.patience = 2});
  EXPECT_EQ(run(), 15);
}

TEST_F(EarlyStoppingTest, SmallerMayBeBetter) {
  values = {3, 2, 1, 2, 3};
  add({.mode = MetricMode::min, .patience = 2});
  EXPECT_EQ(run(), 5);
}

TEST_F(EarlyStoppingTest, AnImprovementIsLargerThanTheDelta) {
  values = {1, 1.5, 1.75, 1.75, 3, 3.5};
  add({.patience = 1, .min_delta = 0.5});
  EXPECT_EQ(run(), 2);
}

TEST_F(EarlyStoppingTest, SmallStepsAddUpToAnImprovement) {
  values = {1, 1.25, 1.5, 1.75, 2, 2, 2};
  add({.patience = 3, .min_delta = 0.5});
  EXPECT_EQ(run(), 7);
}

TEST_F(EarlyStoppingTest, WhatIsNotFiniteIsNoImprovement) {
  const double inf = std::numeric_limits<double>::infinity();
  values = {std::nan(""), 1, inf, std::nan(""), inf, 7};
  add({.patience = 3});
  EXPECT_EQ(run(), 5);
}

TEST_F(EarlyStoppingTest, AValueThatComesOneIterationLateCountsOnce) {
  add({.patience = 3});
  const std::vector<double> late = {1, 2, 1, 1, 1, 1, 1};
  trainer.step = [&] {
    if (trainer.iter() > 0) trainer.storage().put_scalar("score", late.at(trainer.iter() - 1), false, trainer.iter() - 1);
  };
  EXPECT_EQ(run(), 6);
  EXPECT_EQ(trainer.stop_reason(), "score has not improved in 3 values (best: 2.00000 of iteration 1)");
}

TEST_F(EarlyStoppingTest, CountsOnOverARestart) {
  values = {5, 1, 1, 1, 1, 1};
  add({.patience = 4});
  trainer.train(0, 3);
  const Dict state = deep_clone(trainer.state_dict());

  IdleTrainer second;
  second.step = [&] { second.storage().put_scalar("score", 1, false); };
  second.add_hook<EarlyStopping>(EarlyStoppingOptions{.metric = "score", .patience = 4});
  second.check_state_dict(state);
  second.load_state_dict(state);
  second.train(second.start_iter(), 20);
  EXPECT_EQ(second.iter(), 5);
}

TEST_F(EarlyStoppingTest, AStateOfAnotherMetricStartsAnew) {
  const Dict state{{"metric", "score"}, {"mode", "max"}, {"best", 5.0}, {"best_iter", 0}, {"stalled", 2}, {"judged", 2}};
  EarlyStopping same({.metric = "score"}), other({.metric = "error"}), turned({.metric = "score", .mode = MetricMode::min});
  for (EarlyStopping* hook : {&same, &other, &turned}) hook->load_state_dict(state);
  EXPECT_TRUE(identical(same.state_dict(), state));
  EXPECT_EQ(other.state_dict().at("stalled").as_int(), 0);
  EXPECT_TRUE(turned.state_dict().at("best").is_null());
  EXPECT_EQ(trainer.logs.size(), 2u);
}

TEST_F(EarlyStoppingTest, ABrokenStateIsRefused) {
  const EarlyStopping hook({.metric = "score"});
  EXPECT_NO_THROW(hook.check_state_dict(hook.state_dict()));
  for (const auto& [key, value] : Dict{{"metric", 1}, {"mode", 1}, {"best", std::nan("")}, {"best_iter", "x"}, {"stalled", -1}}) {
    Dict bad = hook.state_dict();
    bad.set(key, value);
    EXPECT_THROW(hook.check_state_dict(bad), FormatError) << key.to_string();
  }
}

TEST_F(EarlyStoppingTest, AMetricThatNeverCameIsWarnedAbout) {
  add({});
  EXPECT_EQ(run(3), 3);
  EXPECT_EQ(trainer.logs.back(), "EarlyStopping: \"score\" was never recorded");
}

TEST_F(EarlyStoppingTest, OptionsOutOfRangeAreNamed) {
  EXPECT_THROW(hooks::validate(EarlyStoppingOptions{}), ConfigError);
  EXPECT_THROW(hooks::validate(EarlyStoppingOptions{.metric = "a", .patience = 0}), ConfigError);
  EXPECT_THROW(EarlyStopping({.metric = "a", .min_delta = -1}), ConfigError);
  EXPECT_THROW(EarlyStopping({.metric = "a", .min_delta = std::nan("")}), ConfigError);
}

}  // namespace
}  // namespace treadle

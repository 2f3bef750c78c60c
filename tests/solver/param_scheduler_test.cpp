#include <treadle/base/errors.hpp>
#include <treadle/solver/param_scheduler.hpp>

#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include <cmath>
#include <limits>
#include <numbers>

namespace treadle {
namespace {

const double kNaN = std::numeric_limits<double>::quiet_NaN();

TEST(ParamScheduler, FormulasAtPlainPoints) {
  EXPECT_EQ(ConstantParamScheduler(0.42)(0.5), 0.42);
  EXPECT_EQ(LinearParamScheduler(1, 3)(0.25), 1.5);
  EXPECT_DOUBLE_EQ(CosineParamScheduler(1, 0)(0.5), 0.5);
  EXPECT_DOUBLE_EQ(ExponentialParamScheduler(2, 0.25)(0.5), 1.0);
  EXPECT_DOUBLE_EQ(PolynomialDecayParamScheduler(8, 3)(0.5), 1.0);
}

TEST(ParamScheduler, MultiStepChangesAtItsMilestones) {
  MultiStepParamScheduler steps({1, 0.1, 0.01}, 90, std::vector<double>{30, 60});
  for (int k = 0; k < 90; ++k) EXPECT_EQ(steps(k / 90.0), k < 30 ? 1 : k < 60 ? 0.1 : 0.01) << k;
}

TEST(ParamScheduler, StepWithFixedGammaDividesTheRunEvenly) {
  StepWithFixedGammaParamScheduler steps(1.0, 3, 0.5, 120);
  for (int k = 0; k < 120; ++k) EXPECT_EQ(steps(k / 120.0), std::pow(0.5, k / 30)) << k;
}

TEST(ParamScheduler, ConstructorsRefuseBadArguments) {
  EXPECT_THROW(MultiStepParamScheduler({1, 0.1}, std::nullopt), ConfigError);
  EXPECT_THROW(MultiStepParamScheduler({}, 10), ConfigError);
  EXPECT_THROW(MultiStepParamScheduler({1, 2, 3}, 10, std::vector<double>{7, 5}), ConfigError);
  EXPECT_THROW(MultiStepParamScheduler({1, 2}, 10, std::vector<double>{10}), ConfigError);
  EXPECT_THROW(MultiStepParamScheduler({1, 2}, 10, std::vector<double>{kNaN}), ConfigError);
  EXPECT_THROW(StepParamScheduler(0, {1}), ConfigError);
  EXPECT_THROW(StepParamScheduler(10, {}), ConfigError);
  EXPECT_THROW(StepWithFixedGammaParamScheduler(1, 0, 0.1, 10), ConfigError);
  EXPECT_THROW(CompositeParamScheduler({}), ConfigError);
  EXPECT_THROW(CompositeParamScheduler({{ParamScheduler(), 1.0}}), ConfigError);
  EXPECT_THROW(WarmupParamScheduler(ParamScheduler(), {}), ConfigError);
  EXPECT_THROW(warmup_method_from_string("burnin"), ConfigError);
  EXPECT_THROW(interval_scaling_from_string("stretched"), ConfigError);
  EXPECT_THROW(decay_shape_from_string("steep"), ConfigError);
}

TEST(ParamScheduler, ConstructorsNameTheArgumentThatIsNoFiniteNumber) {
  const auto refused = [](const std::string& argument, const auto& make) {
    for (double bad : {kNaN, std::numeric_limits<double>::infinity()}) {
      try {
        make(bad);
        ADD_FAILURE() << argument << " " << bad << ": no error";
      } catch (const ConfigError& error) {
        EXPECT_EQ(error.key(), argument);
        EXPECT_NE(std::string(error.what()).find("must be finite"), std::string::npos) << error.what();
      }
    }
  };
  refused("value", [](double bad) { ConstantParamScheduler{bad}; });
  refused("start_value", [](double bad) { LinearParamScheduler(bad, 1); });
  refused("end_value", [](double bad) { LinearParamScheduler(1, bad); });
  refused("start_value", [](double bad) { CosineParamScheduler(bad, 1); });
  refused("end_value", [](double bad) { CosineParamScheduler(1, bad); });
  refused("start_value", [](double bad) { ExponentialParamScheduler(bad, 0.5); });
  refused("decay", [](double bad) { ExponentialParamScheduler(1, bad); });
  refused("base_value", [](double bad) { PolynomialDecayParamScheduler(bad, 2); });
  refused("power", [](double bad) { PolynomialDecayParamScheduler(1, bad); });
  refused("values", [](double bad) { MultiStepParamScheduler({1, bad}, 10); });
  refused("milestones", [](double bad) { MultiStepParamScheduler({1, 2}, std::nullopt, std::vector<double>{5, bad}); });
  refused("values", [](double bad) { StepParamScheduler(10, {bad}); });
  refused("base_value", [](double bad) { StepWithFixedGammaParamScheduler(bad, 1, 0.1, 10); });
  refused("gamma", [](double bad) { StepWithFixedGammaParamScheduler(1, 1, bad, 10); });
  refused("WarmupOptions.factor", [](double bad) { WarmupParamScheduler(ConstantParamScheduler(1), {.factor = bad}); });
  refused("WarmupOptions.length", [](double bad) { WarmupParamScheduler(LinearParamScheduler(1, 0), {.length = bad}); });
  EXPECT_THROW(WarmupParamScheduler(LinearParamScheduler(1, 0), {.length = -0.1}), ConfigError);
  // Factors below 0 are legal, as in fvcore; rates are not.
  EXPECT_EQ(ConstantParamScheduler(-0.5)(0), -0.5);
}

TEST(ParamScheduler, AWarmupLongerThanTheRunNeedsAScheduleThatGoesOn) {
  // From half of the first value straight to that at twice the run, 1 - 2 = -1; the run ends in the middle.
  WarmupParamScheduler line(LinearParamScheduler(1, 0), {.factor = 0.5, .length = 2});
  EXPECT_DOUBLE_EQ(line(0.5), 0.5 + (-1 - 0.5) * 0.25);
  const std::vector<ParamScheduler> with_an_end = {ConstantParamScheduler(1), MultiStepParamScheduler({1, 0.5}, 20, {{10}}),
                                                   StepParamScheduler(20, {1, 0.5})};
  for (const ParamScheduler& schedule : with_an_end) {
    try {
      WarmupParamScheduler(schedule, {.factor = 0.5, .length = 2});
      ADD_FAILURE();
    } catch (const ConfigError& error) {
      EXPECT_EQ(error.key(), "WarmupOptions.length");
    }
    EXPECT_NO_THROW(WarmupParamScheduler(schedule, {.factor = 0.5, .length = 0.5}));
  }
}

TEST(ParamScheduler, WarmupReachesTheScheduleWithoutAJump) {
  for (bool rescale : {false, true}) {
    WarmupParamScheduler warm(CosineParamScheduler(1, 0), {.factor = 0.1, .length = 0.25, .rescale_interval = rescale});
    EXPECT_DOUBLE_EQ(warm(0), 0.1);
    EXPECT_NEAR(warm(0.25 - 1e-9), warm(0.25 + 1e-9), 1e-7);
    EXPECT_NEAR(warm(0.25 + 1e-9), rescale ? 1.0 : CosineParamScheduler(1, 0)(0.25), 1e-7);
  }
  WarmupParamScheduler constant(CosineParamScheduler(1, 0), {.factor = 0.1, .length = 0.25, .method = WarmupMethod::constant});
  EXPECT_EQ(constant(0.2), 0.1);
}

TEST(ParamScheduler, StableDecayHoldsThenReachesItsEnd) {
  for (DecayShape shape : {DecayShape::linear, DecayShape::cosine, DecayShape::one_minus_sqrt}) {
    StableDecayParamScheduler decay(0.2, 0.05, shape);
    EXPECT_EQ(decay(0), 1);
    EXPECT_EQ(decay(0.79), 1);
    EXPECT_NEAR(decay(0.8), 1, shape == DecayShape::one_minus_sqrt ? 1e-7 : 1e-12);
    EXPECT_LT(decay(0.81), 1);
    EXPECT_DOUBLE_EQ(decay(1), 0.05);
  }
  // Half-way through the decay.
  EXPECT_DOUBLE_EQ(StableDecayParamScheduler(0.5, 0, decay_shape_from_string("linear"))(0.75), 0.5);
  EXPECT_DOUBLE_EQ(StableDecayParamScheduler(0.5, 0, decay_shape_from_string("cosine"))(0.625),
                   (1 + std::cos(std::numbers::pi / 4)) / 2);
  EXPECT_DOUBLE_EQ(StableDecayParamScheduler(0.5, 0, decay_shape_from_string("one_minus_sqrt"))(0.625), 0.5);
  EXPECT_THROW(StableDecayParamScheduler(0, 0), ConfigError);
  EXPECT_THROW(StableDecayParamScheduler(0.5, 1.5), ConfigError);
}

RC_GTEST_PROP(ParamSchedulerProperty, CompositeOfOneScheduleIsThatSchedule, ()) {
  double progress = *rc::gen::inRange(0, 1000) / 1000.0;
  CompositeParamScheduler composite({{CosineParamScheduler(0.3, 0.1), 1.0}});
  RC_ASSERT(composite(progress) == CosineParamScheduler(0.3, 0.1)(progress));
}

RC_GTEST_PROP(ParamSchedulerProperty, CompositeRunsThePartThatProgressLiesIn, ()) {
  auto weights = *rc::gen::container<std::vector<int>>(3, rc::gen::inRange(1, 50));
  double total = weights[0] + weights[1] + weights[2];
  std::vector<CompositeParamScheduler::Part> parts;
  for (int i = 0; i < 3; ++i)
    parts.push_back({ConstantParamScheduler(i), weights[static_cast<std::size_t>(i)] / total, IntervalScaling::fixed});
  CompositeParamScheduler composite(parts);
  double progress = *rc::gen::inRange(0, 10000) / 10000.0;
  double first = weights[0] / total;
  double second = (weights[0] + weights[1]) / total;
  RC_PRE(std::abs(progress - first) > 1e-5 && std::abs(progress - second) > 1e-5);
  RC_ASSERT(composite(progress) == (progress < first ? 0 : progress < second ? 1 : 2));
}

}  // namespace
}  // namespace treadle

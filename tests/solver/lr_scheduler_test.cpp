#include <treadle/base/errors.hpp>
#include <treadle/base/log.hpp>
#include <treadle/solver/legacy_lr_scheduler.hpp>
#include <treadle/solver/lr_scheduler.hpp>
#include <treadle/solver/optimizer_state.hpp>
#include <treadle/solver/sgd.hpp>

#include <ATen/ops/zeros.h>
#include <gtest/gtest.h>

#include <limits>
#include <string>

namespace treadle {
namespace {

const double kNaN = std::numeric_limits<double>::quiet_NaN();

Sgd two_groups(double first = 0.1, double second = 0.02) {
  return Sgd(
      {{{at::zeros({1}).requires_grad_()}, {}, {{"lr", first}}}, {{at::zeros({1}).requires_grad_()}, {}, {{"lr", second}}}},
      {.momentum = 0.9});
}

struct Warnings {
  std::vector<std::string> lines;
  LogCapture capture{[this](LogLevel level, std::string_view line) {
    if (level == LogLevel::warning) lines.emplace_back(line);
  }};
};

TEST(LRMultiplier, MultipliesTheBaseRateOfEachGroup) {
  Sgd sgd = two_groups();
  LRMultiplier scheduler(sgd, LinearParamScheduler(1, 0), {.max_iter = 10});
  for (int k = 0; k < 10; ++k) {
    double factor = 1 - k / 10.0;
    EXPECT_EQ(scheduler.last_iter(), k);
    EXPECT_EQ(scheduler.get_last_lr(), (std::vector<double>{0.1 * factor, 0.02 * factor}));
    EXPECT_EQ(group_lrs(sgd), scheduler.get_last_lr());
    EXPECT_EQ(scheduler.get_lr(), scheduler.get_last_lr());
    scheduler.step();
  }
}

TEST(LRMultiplier, AnswersForMaxIterWithTheLastDefinedRate) {
  Sgd sgd = two_groups();
  LRMultiplier scheduler(sgd, StepParamScheduler(2, {1, 0.5}), {.max_iter = 2});
  scheduler.step();
  scheduler.step();
  EXPECT_EQ(scheduler.get_last_lr()[0], 0.05);
  EXPECT_THROW(scheduler.step(), Error);
}

TEST(LRMultiplier, ResumesInTheMiddle) {
  Sgd sgd = two_groups();
  LRMultiplier scheduler(sgd, CosineParamScheduler(1, 0), {.max_iter = 20});
  for (int k = 0; k < 7; ++k) scheduler.step();
  Sgd other = two_groups();
  LRMultiplier resumed(other, CosineParamScheduler(1, 0), {.max_iter = 20});
  Warnings warnings;
  resumed.load_state_dict(scheduler.state_dict());
  EXPECT_TRUE(warnings.lines.empty());
  EXPECT_EQ(resumed.last_iter(), 7);
  EXPECT_EQ(group_lrs(other), group_lrs(sgd));
}

TEST(LRMultiplier, AChangedBaseRateCountsUnlessTurnedRound) {
  Sgd sgd = two_groups();
  LRMultiplier scheduler(sgd, ConstantParamScheduler(1), {.max_iter = 20});
  scheduler.step();
  Dict state = scheduler.state_dict();

  Sgd current = two_groups(0.5, 0.02);
  LRMultiplier by_config(current, ConstantParamScheduler(1), {.max_iter = 20});
  {
    Warnings warnings;
    by_config.load_state_dict(state);
    EXPECT_EQ(warnings.lines.size(), 1U);
  }
  EXPECT_EQ(by_config.last_iter(), 1);
  EXPECT_EQ(group_lrs(current), (std::vector<double>{0.5, 0.02}));

  Sgd saved = two_groups(0.5, 0.02);
  LRMultiplier by_state(saved, ConstantParamScheduler(1), {.max_iter = 20, .resume = ResumeSettings::saved});
  Warnings warnings;
  by_state.load_state_dict(state);
  EXPECT_TRUE(warnings.lines.empty());
  EXPECT_EQ(group_lrs(saved), (std::vector<double>{0.1, 0.02}));
}

TEST(LRMultiplier, SetsItsRatesAgainAfterTheOptimizerWasLoaded) {
  Sgd sgd = two_groups();
  LRMultiplier scheduler(sgd, ConstantParamScheduler(0.5), {.max_iter = 20});
  sgd.param_groups()[0].options().set_lr(7);
  scheduler.apply();
  EXPECT_EQ(group_lrs(sgd), (std::vector<double>{0.05, 0.01}));
}

void add_group(torch::optim::Optimizer& optimizer, double lr) {
  torch::optim::OptimizerParamGroup group({at::zeros({1}).requires_grad_()});
  group.set_options(std::make_unique<torch::optim::SGDOptions>(lr));
  optimizer.add_param_group(group);
}

TEST(LRMultiplier, AGroupThatIsAddedLaterJoinsWithTheRateItBrings) {
  Sgd sgd = two_groups();
  LRMultiplier scheduler(sgd, LinearParamScheduler(1, 0), {.max_iter = 10});
  scheduler.step();
  add_group(sgd, 0.5);
  EXPECT_EQ(scheduler.state_dict().at("base_lrs").as_list().at(2).as_double(), 0.5);
  EXPECT_NO_THROW(scheduler.check_state_dict(scheduler.state_dict()));
  EXPECT_EQ(group_lrs(sgd)[2], 0.5);
  scheduler.step();
  EXPECT_EQ(group_lrs(sgd), (std::vector<double>{0.1 * 0.8, 0.02 * 0.8, 0.5 * 0.8}));
  scheduler.step();
  EXPECT_EQ(group_lrs(sgd)[2], 0.5 * (1 - 3 / 10.0));
  EXPECT_EQ(scheduler.base_lrs(), (std::vector<double>{0.1, 0.02, 0.5}));
  EXPECT_EQ(scheduler.get_lr(), group_lrs(sgd));
}

TEST(LRMultiplier, AGroupThatIsAddedLaterResumesFromItsSavedBaseRate) {
  Sgd sgd = two_groups();
  LRMultiplier scheduler(sgd, LinearParamScheduler(1, 0), {.max_iter = 10});
  add_group(sgd, 0.5);
  for (int k = 0; k < 4; ++k) scheduler.step();
  for (bool optimizer_first : {true, false}) {
    Sgd other = two_groups();
    LRMultiplier resumed(other, LinearParamScheduler(1, 0), {.max_iter = 10});
    add_group(other, 0.5);
    if (optimizer_first) load_optimizer_state_dict(other, optimizer_state_dict(sgd));
    resumed.load_state_dict(scheduler.state_dict());
    EXPECT_EQ(group_lrs(other), group_lrs(sgd));
    EXPECT_EQ(resumed.base_lrs(), scheduler.base_lrs());
    EXPECT_EQ(optimizer_state_dict(other).at("param_groups").as_list().at(2).as_dict().at("initial_lr").as_double(), 0.5);
  }
}

TEST(LRMultiplier, RatesThatNoOptimizerCanTakeNameIterationAndGroup) {
  for (double bad : {kNaN, std::numeric_limits<double>::infinity(), -0.5}) {
    Sgd sgd = two_groups(0.0, 0.02);
    LRMultiplier scheduler(sgd, [bad](double progress) { return progress < 0.2 ? 1.0 : bad; }, {.max_iter = 10});
    scheduler.step();
    try {
      scheduler.step();
      ADD_FAILURE() << "no error for " << bad;
    } catch (const Error& error) {
      const std::string said = error.what();
      EXPECT_NE(said.find("at iteration 2;"), std::string::npos) << said;
      // Nothing times a rate of 0 is a bad rate, unless it is no number.
      EXPECT_NE(said.find(bad == -0.5 ? "group 1 " : "group 0 "), std::string::npos) << said;
    }
    EXPECT_EQ(group_lrs(sgd), (std::vector<double>{0.0, 0.02}));
    EXPECT_EQ(scheduler.get_last_lr(), group_lrs(sgd));
    EXPECT_EQ(scheduler.last_iter(), 1);
  }
}

TEST(LRMultiplier, RefusesAStateThatDoesNotFitAndChangesNothing) {
  Sgd sgd = two_groups();
  LRMultiplier scheduler(sgd, ConstantParamScheduler(1), {.max_iter = 20});
  Dict good = scheduler.state_dict();
  for (const Dict& bad :
       {Dict{}, Dict{{"base_lrs", List{0.1}}, {"last_epoch", 3}}, Dict{{"base_lrs", List{0.1, kNaN}}, {"last_epoch", 3}},
        Dict{{"base_lrs", List{0.1, -0.1}}, {"last_epoch", 3}}, Dict{{"base_lrs", List{0.1, 0.2}}, {"last_epoch", -4}},
        Dict{{"base_lrs", List{0.1, 0.2}}, {"last_epoch", "3"}}}) {
    EXPECT_THROW(scheduler.check_state_dict(bad), FormatError) << describe(bad);
    EXPECT_THROW(scheduler.load_state_dict(bad), FormatError);
    EXPECT_TRUE(identical(scheduler.state_dict(), good));
  }
}

TEST(LRMultiplier, RefusesTheStateOfALongerRunAndChangesNothing) {
  Sgd longer = two_groups();
  LRMultiplier saved(longer, ConstantParamScheduler(1), {.max_iter = 40});
  while (saved.last_iter() < 21) saved.step();
  const std::vector<ParamScheduler> with_an_end = {MultiStepParamScheduler({1, 0.5}, 20, {{10}}),
                                                   StepParamScheduler(20, {1, 0.5}), ConstantParamScheduler(1),
                                                   [](double progress) { return progress > 1 ? kNaN : 1; }};
  for (const ParamScheduler& schedule : with_an_end) {
    Sgd sgd = two_groups(0.3, 0.4);
    LRMultiplier scheduler(sgd, schedule, {.max_iter = 20});
    const Dict before = scheduler.state_dict();
    const std::vector<double> rates = group_lrs(sgd);
    EXPECT_THROW(scheduler.check_state_dict(saved.state_dict()), FormatError);
    EXPECT_THROW(scheduler.load_state_dict(saved.state_dict()), FormatError);
    EXPECT_TRUE(identical(scheduler.state_dict(), before));
    EXPECT_EQ(group_lrs(sgd), rates);
    EXPECT_EQ(scheduler.get_last_lr(), rates);
  }
  // A schedule that goes on behind its end takes the state.
  Sgd sgd = two_groups();
  LRMultiplier cosine(sgd, CosineParamScheduler(1, 0), {.max_iter = 20});
  EXPECT_NO_THROW(cosine.load_state_dict(saved.state_dict()));
  EXPECT_EQ(cosine.last_iter(), 21);
}

TEST(LRMultiplier, RefusesBadOptions) {
  Sgd sgd = two_groups();
  EXPECT_THROW(LRMultiplier(sgd, ParamScheduler(), {.max_iter = 10}), ConfigError);
  EXPECT_THROW(LRMultiplier(sgd, ConstantParamScheduler(1), {.max_iter = 0}), ConfigError);
  EXPECT_THROW(LRMultiplier(sgd, ConstantParamScheduler(1), {.max_iter = 10, .last_iter = 2}), ConfigError);
  EXPECT_THROW(LRMultiplier(sgd, ConstantParamScheduler(1), {.max_iter = 10, .last_iter = -2}), ConfigError);
  EXPECT_THROW(LRMultiplier(sgd, ConstantParamScheduler(1), {.max_iter = 10, .base_lrs = {0.1}}), ConfigError);
}

template <class Change>
std::string refused_field(Change change) {
  LRSchedulerOptions options{.warmup_iters = 10};
  change(options);
  try {
    build_param_scheduler(options);
  } catch (const ConfigError& error) {
    EXPECT_NE(std::string(error.what()).find(error.key()), std::string::npos) << error.what();
    return error.key();
  }
  return "none";
}

TEST(BuildLRScheduler, NamesTheFieldThatIsWrong) {
  auto field = [](const char* name) { return std::string("LRSchedulerOptions.") + name; };
  EXPECT_EQ(refused_field([](auto&) {}), "none");
  EXPECT_EQ(refused_field([](auto& o) { o.max_iter = 0; }), field("max_iter"));
  EXPECT_EQ(refused_field([](auto& o) { o.base_lr = kNaN; }), field("base_lr"));
  EXPECT_EQ(refused_field([](auto& o) { o.gamma = 0; }), field("gamma"));
  EXPECT_EQ(refused_field([](auto& o) { o.steps = {20, 10}; }), field("steps"));
  EXPECT_EQ(refused_field([](auto& o) { o.steps = {0}; }), field("steps"));
  EXPECT_EQ(refused_field([](auto& o) { o.num_decays = 0; }), field("num_decays"));
  EXPECT_EQ(refused_field([](auto& o) { o.warmup_iters = o.max_iter + 1; }), field("warmup_iters"));
  EXPECT_EQ(refused_field([](auto& o) { o.warmup_iters = -1; }), field("warmup_iters"));
  EXPECT_EQ(refused_field([](auto& o) { o.warmup_iters = o.max_iter, o.rescale_interval = true; }), field("warmup_iters"));
  EXPECT_EQ(refused_field([](auto& o) { o.warmup_factor = -1; }), field("warmup_factor"));
  EXPECT_EQ(refused_field([](auto& o) { o.name = "WarmupCosineLR", o.base_lr_end = 1; }), field("base_lr_end"));
  EXPECT_EQ(refused_field([](auto& o) { o.name = "WarmupCosineLR", o.base_lr = 0; }), field("base_lr"));
  EXPECT_EQ(refused_field([](auto& o) { o.name = "WarmupStableDecayLR"; }), field("decay_iters"));
  EXPECT_EQ(refused_field([](auto& o) { o.name = "WarmupCosinusLR"; }), "WarmupCosinusLR");
}

TEST(BuildLRScheduler, ValidateLooksAtTheDecayOfTheScheduleThatHasOne) {
  for (const std::int64_t length : {0, 21}) {
    EXPECT_THROW(validate({.name = "WarmupStableDecayLR", .max_iter = 20, .warmup_iters = 0, .decay_iters = length}),
                 ConfigError);
    EXPECT_NO_THROW(validate({.max_iter = 20, .steps = {}, .warmup_iters = 0, .decay_iters = length}));
  }
  EXPECT_NO_THROW(validate({.name = "WarmupStableDecayLR", .max_iter = 20, .warmup_iters = 0, .decay_iters = 20}));
}

TEST(BuildLRScheduler, DropsStepsBehindTheEndWithAWarning) {
  Warnings warnings;
  ParamScheduler schedule = build_param_scheduler({.max_iter = 20, .steps = {10, 20, 30}, .warmup_iters = 0});
  EXPECT_EQ(warnings.lines.size(), 1U);
  EXPECT_EQ(schedule(9 / 20.0), 1);
  EXPECT_EQ(schedule(19 / 20.0), 0.1);
  EXPECT_EQ(schedule(1.0), 0.1);
}

TEST(BuildLRScheduler, BuildsWarmupStableDecay) {
  Sgd sgd = two_groups(1.0, 2.0);
  auto scheduler = build_lr_scheduler({.name = "WarmupStableDecayLR",
                                       .max_iter = 100,
                                       .base_lr = 1.0,
                                       .base_lr_end = 0.1,
                                       .warmup_iters = 10,
                                       .warmup_factor = 0,
                                       .decay_iters = 20,
                                       .decay_shape = DecayShape::linear},
                                      sgd);
  std::vector<double> lrs{group_lrs(sgd)[0]};
  while (lrs.size() < 101) {
    scheduler->step();
    lrs.push_back(group_lrs(sgd)[0]);
  }
  EXPECT_EQ(lrs[0], 0);
  EXPECT_DOUBLE_EQ(lrs[5], 0.5);
  EXPECT_EQ(lrs[10], 1);
  EXPECT_EQ(lrs[79], 1);
  EXPECT_NEAR(lrs[90], 0.55, 1e-12);
  EXPECT_DOUBLE_EQ(lrs[100], 0.1);
}

TEST(BuildLRScheduler, TakesRegisteredSchedules) {
  param_schedulers().add("HalfLR", [](const LRSchedulerOptions&) { return ParamScheduler(LinearParamScheduler(0.5, 0.5)); });
  EXPECT_EQ(build_param_scheduler({.name = "HalfLR", .warmup_iters = 0})(0.3), 0.5);
}

TEST(BuildLRScheduler, PassesTheResumeSettingsOn) {
  Sgd sgd = two_groups();
  auto scheduler = build_lr_scheduler({.max_iter = 10, .steps = {}, .warmup_iters = 0, .resume = ResumeSettings::saved}, sgd);
  scheduler->load_state_dict({{"base_lrs", List{3.0, 4.0}}, {"last_epoch", 2}});
  EXPECT_EQ(group_lrs(sgd), (std::vector<double>{3, 4}));
}

TEST(LegacyScheduler, WarnsThatItIsDeprecatedAndResumes) {
  Warnings warnings;
  Sgd sgd = two_groups();
  WarmupMultiStepLR scheduler(sgd, {5, 8}, 0.1, {.warmup_iters = 2});
  EXPECT_EQ(warnings.lines.size(), 1U);
  for (int k = 0; k < 6; ++k) scheduler.step();
  EXPECT_EQ(scheduler.compute_values(), scheduler.get_last_lr());
  EXPECT_DOUBLE_EQ(scheduler.get_last_lr()[0], 0.01);
  Sgd other = two_groups();
  WarmupMultiStepLR resumed(other, {5, 8}, 0.1, {.warmup_iters = 2, .last_epoch = 5, .base_lrs = {0.1, 0.02}});
  EXPECT_EQ(group_lrs(other), group_lrs(sgd));
  EXPECT_THROW(WarmupCosineLR(sgd, 0), ConfigError);
  EXPECT_THROW(WarmupCosineLR(sgd, 10, {.warmup_factor = kNaN}), ConfigError);
  EXPECT_THROW(WarmupMultiStepLR(sgd, {5}, 0.1, {.warmup_factor = kNaN}), ConfigError);
  EXPECT_THROW(WarmupMultiStepLR(sgd, {5}, kNaN), ConfigError);
  EXPECT_DOUBLE_EQ(WarmupCosineLR(sgd, 10, {.warmup_iters = 0, .last_epoch = 4, .base_lrs = {0.2, 0.2}}).compute_values()[0],
                   0.1);
}

}  // namespace
}  // namespace treadle

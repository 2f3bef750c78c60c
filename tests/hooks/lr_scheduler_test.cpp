#include <tests/hooks/idle_trainer.hpp>
#include <treadle/base/errors.hpp>
#include <treadle/hooks.hpp>
#include <treadle/solver/lr_scheduler.hpp>

#include <ATen/ops/ones.h>
#include <gtest/gtest.h>
#include <torch/optim/sgd.h>

namespace treadle {
namespace {

double rate(const torch::optim::Optimizer& optimizer) { return optimizer.param_groups()[0].options().get_lr(); }

struct LRSchedulerHookTest : testing::Test {
  torch::optim::SGD optimizer{{at::ones({1})}, torch::optim::SGDOptions(0.4)};
  LRMultiplier schedule{optimizer, [](double progress) { return 1 - progress; }, {.max_iter = 4}};
  IdleTrainer trainer;
};

TEST_F(LRSchedulerHookTest, RecordsTheRateOfTheStepAndSetsTheNext) {
  std::vector<double> used;
  trainer.step = [&] { used.push_back(rate(optimizer)); };
  trainer.add_hook<hooks::LRScheduler>(optimizer, schedule);
  trainer.train(0, 4);
  const std::vector<double> expected = {0.4 * 1, 0.4 * (1 - 0.25), 0.4 * (1 - 0.5), 0.4 * (1 - 0.75)};
  EXPECT_EQ(used, expected);
  EXPECT_EQ(trainer.storage().history("lr").latest(), expected.back());
  EXPECT_FALSE(trainer.storage().smoothing_hints().front().second);
}

TEST_F(LRSchedulerHookTest, TheScheduleDecidesOverTheRateOfALoadedOptimizer) {
  trainer.add_hook<hooks::LRScheduler>(optimizer, schedule);
  optimizer.param_groups()[0].options().set_lr(99);
  double used = 0;
  trainer.step = [&] { used = rate(optimizer); };
  trainer.train(0, 1);
  EXPECT_EQ(used, 0.4);
}

TEST(LRSchedulerHook, TheGroupShownIsChosenByBaseRatesWhenTheRunBegins) {
  const auto group = [](double lr) {
    return torch::optim::OptimizerParamGroup({at::ones({1})}, std::make_unique<torch::optim::SGDOptions>(lr));
  };
  torch::optim::SGD optimizer({group(0.1), group(0.2), group(0.2)}, torch::optim::SGDOptions(0.1));
  // At rates of 0 all are alike, and the first would be shown.
  LRMultiplier schedule(optimizer, [](double progress) { return progress; }, {.max_iter = 4});
  IdleTrainer trainer;
  trainer.add_hook<hooks::LRScheduler>(optimizer, schedule);
  trainer.train(0, 2);
  EXPECT_EQ(trainer.storage().history("lr").latest(), 0.2 * 0.25);
  EXPECT_EQ(hooks::LRScheduler::get_best_param_group_id(optimizer), 1u);
}

TEST_F(LRSchedulerHookTest, StateIsTheSchedules) {
  auto& hook = trainer.add_hook<hooks::LRScheduler>(optimizer, schedule);
  trainer.train(0, 2);
  EXPECT_TRUE(identical(hook.state_dict(), schedule.state_dict()));
  EXPECT_EQ(trainer.hook_keys(), std::vector<std::string>{"LRScheduler"});
  torch::optim::SGD other({at::ones({1})}, torch::optim::SGDOptions(0.4));
  LRMultiplier fresh(other, [](double progress) { return 1 - progress; }, {.max_iter = 4});
  hooks::LRScheduler second(other, fresh);
  EXPECT_THROW(second.check_state_dict({}), FormatError);
  second.load_state_dict(hook.state_dict());
  EXPECT_EQ(rate(other), 0.4 * 0.5);
}

}  // namespace
}  // namespace treadle

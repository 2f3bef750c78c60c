#include <tests/hooks/idle_trainer.hpp>
#include <treadle/base/errors.hpp>
#include <treadle/hooks.hpp>

#include <gtest/gtest.h>
#include <torch/nn/modules/linear.h>

namespace treadle {
namespace {

/// A run whose weight is the number of the iteration.
struct EmaHookTest : testing::Test {
  torch::nn::Linear model{torch::nn::LinearOptions(1, 1).bias(false)};
  IdleTrainer trainer;
  EmaHookTest() {
    set(-1);
    trainer.step = [this] { set(static_cast<double>(trainer.iter())); };
  }
  void set(double value) {
    const at::NoGradGuard no_grad;
    model->weight.fill_(value);
  }
  double weight() const { return model->weight.item<double>(); }
};

TEST_F(EmaHookTest, AveragesTheWeightsBehindEachStep) {
  auto& ema = trainer.add_hook<hooks::EmaHook>(*model, EmaOptions{.decay = 0.5});
  trainer.train(1, 4);
  // 1, then halfway to 2, then halfway to 3.
  EXPECT_EQ(ema.average().averages().front().tensor.item<double>(), 0.5 * (0.5 * 1 + 0.5 * 2) + 0.5 * 3);
  EXPECT_EQ(ema.average().num_updates(), 3);
  EXPECT_EQ(weight(), 3);
}

TEST_F(EmaHookTest, AnEvaluationInsideTheScopeSeesTheAverages) {
  auto& ema = trainer.add_hook<hooks::EmaHook>(*model, EmaOptions{.decay = 0.5});
  double seen = 0;
  trainer.add_hook<hooks::EvalHook>(
      [&] {
        seen = weight();
        return Dict();
      },
      hooks::EvalHookOptions{.period = 2, .scope = ema.scope()});
  trainer.train(1, 3);
  EXPECT_EQ(seen, 1.5);
  EXPECT_EQ(weight(), 2);
}

TEST_F(EmaHookTest, BeforeTheFirstUpdateTheScopeChangesNothing) {
  auto& ema = trainer.add_hook<hooks::EmaHook>(*model, EmaOptions{.period = 10});
  set(7);  // as when weights are loaded behind the hook's construction
  const auto held = ema.scope()();
  EXPECT_EQ(weight(), 7);
}

TEST_F(EmaHookTest, StateIsTheAverage) {
  auto& ema = trainer.add_hook<hooks::EmaHook>(*model, EmaOptions{.decay = 0.5});
  trainer.train(1, 4);
  const Dict state = deep_clone(trainer.state_dict());
  EXPECT_TRUE(identical(state.at("hooks").as_dict().at("EmaHook"), ema.average().state_dict()));

  IdleTrainer second;
  auto& resumed = second.add_hook<hooks::EmaHook>(*model, EmaOptions{.decay = 0.5});
  second.check_state_dict(state);
  second.load_state_dict(state);
  EXPECT_TRUE(identical(resumed.state_dict(), ema.state_dict()));
  EXPECT_THROW(resumed.check_state_dict({}), FormatError);
}

TEST_F(EmaHookTest, OptionsOutOfRangeAreRefused) { EXPECT_THROW(hooks::EmaHook(*model, {.decay = 1}), ConfigError); }

}  // namespace
}  // namespace treadle

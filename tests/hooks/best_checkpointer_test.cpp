#include <tests/hooks/idle_trainer.hpp>
#include <tests/support/fake_group.hpp>
#include <tests/support/temporary_folder.hpp>
#include <treadle/base/errors.hpp>
#include <treadle/checkpoint/checkpointer.hpp>
#include <treadle/checkpoint/file.hpp>
#include <treadle/hooks.hpp>

#include <gtest/gtest.h>
#include <torch/nn/modules/linear.h>

#include <cmath>
#include <limits>

namespace treadle {
namespace {

using hooks::BestCheckpointer;
using hooks::BestCheckpointerOptions;
using hooks::MetricMode;

/// A run whose weight is the number of steps, and whose evaluation in iteration i gives `scores[i]` when it has one.
struct BestCheckpointerTest : testing::Test {
  TemporaryFolder folder;
  torch::nn::Linear model{1, 1};
  IdleTrainer trainer;
  Checkpointer checkpointer{*model, folder.path()};
  std::map<std::int64_t, double> scores;
  hooks::Scope scope;

  BestCheckpointerTest() {
    checkpointer.add_checkpointable("trainer", trainer);
    trainer.step = [this] { set_weight(static_cast<double>(trainer.iter())); };
  }
  void set_weight(double value) {
    const at::NoGradGuard no_grad;
    model->weight.fill_(value);
  }
  BestCheckpointer& add(BestCheckpointerOptions options) {
    trainer.add_hook<hooks::EvalHook>(
        [this] {
          const auto found = scores.find(trainer.iter());
          return found == scores.end() ? Dict() : Dict{{"task", Dict{{"score", found->second}}}};
        },
        hooks::EvalHookOptions{.period = 2});
    options.metric = "task/score";
    return trainer.add_hook<BestCheckpointer>(checkpointer, std::move(options));
  }
  Value file(const std::string& name = "model_best") const { return load_checkpoint_file(folder.path() / (name + ".pth")); }
  double saved_weight() const { return file().as_dict().at("model").as_dict().at("weight").as_tensor().item<double>(); }
  bool has(const std::string& name) const { return std::filesystem::exists(folder.path() / name); }
  bool logged(const std::string& part) const {
    return std::any_of(trainer.logs.begin(), trainer.logs.end(),
                       [&](const std::string& line) { return line.find(part) != std::string::npos; });
  }
};

TEST_F(BestCheckpointerTest, KeepsTheWeightsThatScoredHighest) {
  scores = {{1, 10}, {3, 30}, {5, 20}, {7, 30}, {9, 29}};
  const auto& best = add({.period = 2});
  trainer.train(0, 9);
  EXPECT_EQ(best.best_metric(), 30);
  EXPECT_EQ(best.best_iter(), 3);
  EXPECT_EQ(saved_weight(), 3);
  EXPECT_EQ(file().as_dict().at("iteration").as_int(), 3);
  EXPECT_EQ(file().as_dict().at("trainer").as_dict().at("iteration").as_int(), 3);
}

TEST_F(BestCheckpointerTest, KeepsTheSmallestWhereThatIsBest) {
  scores = {{1, 10}, {3, 5}, {5, 20}};
  const auto& best = add({.period = 2, .mode = MetricMode::min});
  trainer.train(0, 7);
  EXPECT_EQ(best.best_metric(), 5);
  EXPECT_EQ(saved_weight(), 3);
}

TEST_F(BestCheckpointerTest, TheEndOfACompleteRunCounts) {
  scores = {{5, 1}};
  const auto& best = add({});
  trainer.train(0, 5);
  EXPECT_EQ(best.best_iter(), 5);
  EXPECT_EQ(saved_weight(), 4);
}

TEST_F(BestCheckpointerTest, AFailureIsNotTheEnd) {
  scores = {{3, 1}};
  const auto& best = add({});
  trainer.step = [this] {
    if (trainer.iter() == 3) {
      trainer.storage().put_scalar("task/score", 5, false);
      throw FormatError("boom");
    }
  };
  EXPECT_THROW(trainer.train(0, 4), FormatError);
  EXPECT_FALSE(best.best_metric());
  EXPECT_FALSE(has("model_best.pth"));
}

TEST_F(BestCheckpointerTest, WhatIsNotFiniteNeverWins) {
  const double nan = std::nan(""), inf = std::numeric_limits<double>::infinity();
  scores = {{1, nan}, {3, inf}, {5, 2}, {7, nan}, {9, inf}};
  const auto& best = add({.period = 2});
  trainer.train(0, 11);
  EXPECT_EQ(best.best_metric(), 2);
  EXPECT_EQ(saved_weight(), 5);
}

TEST_F(BestCheckpointerTest, AValueOfAnEarlierIterationIsNotThatOfTheseWeights) {
  scores = {{1, 10}, {5, 4}};
  const auto& best = add({.period = 3});
  trainer.train(0, 8);
  EXPECT_EQ(best.best_metric(), 4);
  EXPECT_EQ(saved_weight(), 5);
  EXPECT_TRUE(logged("no \"task/score\" was recorded in iteration 2"));
}

TEST_F(BestCheckpointerTest, AMissingMetricIsWarnedAboutWithItsLikes) {
  trainer.step = [this] { trainer.storage().put_scalar("task/scores", 1); };
  add({.period = 2});
  trainer.train(0, 3);
  EXPECT_TRUE(logged("did you mean \"task/scores\"?"));
  EXPECT_FALSE(has("model_best.pth"));
}

TEST_F(BestCheckpointerTest, TheRunIsResumedFromItsLastAndNotFromItsBest) {
  scores = {{1, 10}, {3, 30}};
  trainer.add_hook<hooks::PeriodicCheckpointer>(checkpointer, hooks::PeriodicCheckpointerOptions{.period = 2});
  add({.period = 2, .file_prefix = "top"});
  std::string behind_the_best;
  trainer.add_hook<hooks::CallbackHook>(hooks::Callbacks{.after_step = [&](TrainerBase& t) {
    if (t.iter() == 3) behind_the_best = checkpointer.get_checkpoint_file().filename();
  }});
  trainer.train(0, 5);
  EXPECT_TRUE(has("top.pth"));
  EXPECT_EQ(behind_the_best, "model_0000003.pth");
  EXPECT_EQ(checkpointer.get_checkpoint_file().filename(), "model_final.pth");
}

TEST_F(BestCheckpointerTest, RemembersItsBestOverARestart) {
  scores = {{1, 10}, {3, 8}};
  add({.period = 2});
  trainer.train(0, 4);
  const Dict state = deep_clone(trainer.state_dict());

  IdleTrainer second;
  BestCheckpointer& best =
      second.add_hook<BestCheckpointer>(checkpointer, BestCheckpointerOptions{.period = 2, .metric = "task/score"});
  second.check_state_dict(state);
  second.load_state_dict(state);
  EXPECT_EQ(best.best_metric(), 10);
  EXPECT_EQ(best.best_iter(), 1);
  second.step = [&] { second.storage().put_scalar("task/score", 9, false); };
  second.train(4, 7);
  EXPECT_EQ(saved_weight(), 1);
}

TEST_F(BestCheckpointerTest, TheFileKnowsItsOwnScore) {
  scores = {{1, 10}};
  add({.period = 2});
  trainer.train(0, 3);
  const Value saved = file();
  const Dict& state = saved.as_dict().at("trainer").as_dict().at("treadle_hooks").as_dict().at("BestCheckpointer").as_dict();
  EXPECT_TRUE(identical(state, Dict{{"metric", "task/score"}, {"mode", "max"}, {"best_metric", 10.0}, {"best_iter", 1}}));
}

TEST_F(BestCheckpointerTest, AStateOfAnotherMetricStartsAnew) {
  BestCheckpointer hook(checkpointer, {.metric = "a"});
  const Dict state{{"metric", "a"}, {"mode", "min"}, {"best_metric", 10.0}, {"best_iter", 1}};
  hook.check_state_dict(state);
  hook.load_state_dict(state);
  EXPECT_FALSE(hook.best_metric());
  EXPECT_TRUE(logged("starts anew"));
  Dict other = state;
  other.set("mode", "max");
  hook.load_state_dict(other);
  EXPECT_EQ(hook.best_metric(), 10);
  other.set("metric", "b");
  hook.load_state_dict(other);
  EXPECT_FALSE(hook.best_metric());
  EXPECT_TRUE(hook.state_dict().empty());
}

TEST_F(BestCheckpointerTest, ABrokenStateIsRefused) {
  const BestCheckpointer hook(checkpointer, {.metric = "a"});
  const Dict good{{"metric", "a"}, {"mode", "max"}, {"best_metric", 10.0}, {"best_iter", 1}};
  EXPECT_NO_THROW(hook.check_state_dict(good));
  EXPECT_NO_THROW(hook.check_state_dict({}));
  for (const auto& [key, value] : Dict{{"metric", 1}, {"mode", 1}, {"best_metric", std::nan("")}, {"best_iter", -1}}) {
    Dict bad = good;
    bad.set(key, value);
    EXPECT_THROW(hook.check_state_dict(bad), FormatError) << key.to_string();
  }
}

TEST_F(BestCheckpointerTest, InsideAScopeTheScoredWeightsAloneAreSaved) {
  scores = {{1, 10}};
  add({.period = 2, .scope = [this]() -> std::shared_ptr<void> {
         set_weight(100);
         return {nullptr, [this](void*) { set_weight(1); }};
       }});
  trainer.train(0, 3);
  EXPECT_EQ(saved_weight(), 100);
  EXPECT_EQ(model->weight.item<double>(), 2);
  const Value saved = file();
  EXPECT_FALSE(saved.as_dict().contains("trainer"));
  EXPECT_FALSE(saved.as_dict().contains("iteration"));
  EXPECT_TRUE(identical(saved.as_dict().at("best"), Dict{{"metric", "task/score"}, {"value", 10.0}, {"iteration", 1}}));
}

TEST_F(BestCheckpointerTest, TheMainProcessDecidesForAllRanks) {
  auto group = std::make_shared<FakeGroup>(1, 2);
  group->play_exchange = [](const std::vector<double>& own) { return StepRows{own, own}; };
  group->play_broadcast = [](const Value&) { return Value(12.0); };
  IdleTrainer other({.group = group, .events = {}});
  auto& best = other.add_hook<BestCheckpointer>(checkpointer, BestCheckpointerOptions{.period = 2, .metric = "x"});
  other.train(0, 3);
  EXPECT_EQ(best.best_metric(), 12);
}

TEST_F(BestCheckpointerTest, OptionsOutOfRangeAreNamed) {
  EXPECT_THROW(hooks::validate(BestCheckpointerOptions{.period = -1, .metric = "a"}), ConfigError);
  EXPECT_THROW(hooks::validate(BestCheckpointerOptions{}), ConfigError);
  EXPECT_THROW(BestCheckpointer(checkpointer, {.metric = "a", .file_prefix = ""}), ConfigError);
  EXPECT_EQ(hooks::metric_mode_from_string("min"), MetricMode::min);
  EXPECT_EQ(hooks::metric_mode_from_string("max"), MetricMode::max);
  EXPECT_THROW(hooks::metric_mode_from_string("best"), ConfigError);
}

}  // namespace
}  // namespace treadle

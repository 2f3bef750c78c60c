#include <tests/hooks/idle_trainer.hpp>
#include <tests/support/fake_group.hpp>
#include <treadle/base/errors.hpp>
#include <treadle/hooks.hpp>

#include <ATen/ops/equal.h>
#include <ATen/ops/full_like.h>
#include <gtest/gtest.h>
#include <torch/nn/modules/batchnorm.h>

namespace treadle {
namespace {

using Iterations = std::vector<std::int64_t>;

struct EvalHookTest : testing::Test {
  IdleTrainer trainer;
  Iterations evaluated;
  void add(hooks::EvalHookOptions options) {
    trainer.add_hook<hooks::EvalHook>(
        [this] {
          evaluated.push_back(trainer.iter());
          return Dict{{"task", Dict{{"accuracy", 50.0 + static_cast<double>(evaluated.size())}}}};
        },
        options);
  }
};

TEST_F(EvalHookTest, EvaluatesEveryPeriodAndOnceAtTheEnd) {
  add({.period = 2});
  trainer.train(0, 7);
  EXPECT_EQ(evaluated, (Iterations{1, 3, 5, 7}));
  trainer.train(0, 8);
  EXPECT_EQ(evaluated, (Iterations{1, 3, 5, 7, 1, 3, 5, 8}));
}

TEST_F(EvalHookTest, PeriodZeroMeansTheEndOnly) {
  add({});
  trainer.train(0, 5);
  EXPECT_EQ(evaluated, Iterations{5});
}

TEST_F(EvalHookTest, TheEndCanBeLeftOut) {
  add({.period = 2, .eval_after_train = false});
  trainer.train(0, 4);
  EXPECT_EQ(evaluated, Iterations{1});
}

TEST_F(EvalHookTest, NotAfterAFailureNorAfterAStop) {
  add({});
  trainer.step = [&] { trainer.request_stop("enough"); };
  trainer.train(0, 5);
  trainer.step = [] { throw FormatError("boom"); };
  EXPECT_THROW(trainer.train(0, 1), FormatError);
  EXPECT_TRUE(evaluated.empty());
}

TEST_F(EvalHookTest, ResultsAreRecordedFlatAndNotSmoothed) {
  add({.period = 2});
  trainer.train(0, 3);
  const auto& history = trainer.storage().history("task/accuracy");
  EXPECT_EQ(history.latest(), 52);
  EXPECT_EQ(trainer.storage().latest_with_smoothing_hint(20).front().second.value, 52);
  EXPECT_FALSE(trainer.storage().smoothing_hints().front().second);
}

TEST_F(EvalHookTest, AResultThatIsNoNumberIsNamedWithItsIteration) {
  trainer.add_hook<hooks::EvalHook>([] { return Dict{{"task", Dict{{"note", "good"}}}}; }, hooks::EvalHookOptions{.period = 2});
  try {
    trainer.train(0, 5);
    FAIL();
  } catch (const FormatError& error) {
    const std::string text = error.what();
    EXPECT_NE(text.find("iteration 1"), std::string::npos);
    EXPECT_NE(text.find("\"task/note\""), std::string::npos);
  }
}

TEST_F(EvalHookTest, TheScopeIsHeldDuringTheEvaluationAndLeftByAnError) {
  std::vector<std::string> calls;
  trainer.add_hook<hooks::EvalHook>(
      [&]() -> Dict {
        calls.push_back("evaluate");
        if (calls.size() > 3) throw FormatError("boom");
        return {};
      },
      hooks::EvalHookOptions{.period = 2, .scope = [&]() -> std::shared_ptr<void> {
                               calls.push_back("enter");
                               return {nullptr, [&](void*) { calls.push_back("leave"); }};
                             }});
  EXPECT_THROW(trainer.train(0, 9), FormatError);
  EXPECT_EQ(calls, (std::vector<std::string>{"enter", "evaluate", "leave", "enter", "evaluate", "leave"}));
}

TEST_F(EvalHookTest, AScopeMayBeNone) {
  add({.period = 2, .scope = [] { return nullptr; }});
  trainer.train(0, 3);
  EXPECT_EQ(evaluated, (Iterations{1, 3}));
}

/// The buffers of every rank before an evaluation on rank 1 of 2, where those of the main process are all `main`.
Dict buffers_seen(torch::nn::BatchNorm1d& model, const at::Scalar& main, torch::nn::Module* given) {
  auto group = std::make_shared<FakeGroup>(1, 2);
  group->play_exchange = [](const std::vector<double>& own) { return StepRows{own, own}; };
  group->play_broadcast = [&](const Value& own) {
    Dict sent;
    for (const auto& [name, tensor] : own.as_dict()) sent.set(name, at::full_like(tensor.as_tensor(), main));
    return sent;
  };
  IdleTrainer trainer({.group = group, .events = {}});
  Dict seen;
  trainer.add_hook<hooks::EvalHook>(
      [&] {
        seen = Dict{{"mean", model->running_mean.clone()}, {"count", model->num_batches_tracked.clone()}};
        return Dict();
      },
      hooks::EvalHookOptions{.model = given});
  trainer.train(0, 1);
  return seen;
}

TEST(EvalHookBuffers, AreThoseOfTheMainProcess) {
  torch::nn::BatchNorm1d model(2);
  const at::Tensor mean = model->running_mean;
  const Dict seen = buffers_seen(model, 5, model.get());
  EXPECT_TRUE(at::equal(seen.at("mean").as_tensor(), at::full_like(mean, 5)));
  EXPECT_EQ(seen.at("count").as_tensor().item<std::int64_t>(), 5);
  EXPECT_TRUE(model->running_mean.is_same(mean));
}

TEST(EvalHookBuffers, StayWithoutAModelAndWithUntrackedStatistics) {
  torch::nn::BatchNorm1d model(2), untracked(torch::nn::BatchNorm1dOptions(2).track_running_stats(false));
  const Dict seen = buffers_seen(model, 5, nullptr);
  EXPECT_EQ(seen.at("mean").as_tensor().sum().item<double>(), 0);
  EXPECT_NO_THROW(buffers_seen(model, 5, untracked.get()));
}

TEST_F(EvalHookTest, BadOptionsAreRefused) {
  EXPECT_THROW(add({.period = -1}), ConfigError);
  EXPECT_THROW(hooks::EvalHook(nullptr), Error);
}

}  // namespace
}  // namespace treadle

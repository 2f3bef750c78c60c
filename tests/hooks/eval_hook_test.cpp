#include <tests/hooks/idle_trainer.hpp>
#include <treadle/base/errors.hpp>
#include <treadle/hooks.hpp>

#include <gtest/gtest.h>

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

TEST_F(EvalHookTest, BadOptionsAreRefused) {
  EXPECT_THROW(add({.period = -1}), ConfigError);
  EXPECT_THROW(hooks::EvalHook(nullptr), Error);
}

}  // namespace
}  // namespace treadle

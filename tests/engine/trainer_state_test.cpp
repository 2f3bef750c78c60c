#include <treadle/base/errors.hpp>
#include <treadle/base/log.hpp>
#include <treadle/base/value_view.hpp>
#include <treadle/engine.hpp>

#include <ATen/ops/zeros.h>
#include <gtest/gtest.h>

#include <limits>

namespace treadle {
namespace {

struct Idle : TrainerBase {
  void run_step() override {}
};

struct Counter final : HookBase {
  std::int64_t count = 0;
  std::function<void(TrainerBase&)> on_after_step = [](TrainerBase&) {};
  std::vector<std::int64_t> seen;
  void after_step(TrainerBase& trainer) override {
    ++count;
    seen.push_back(trainer.iter());
    EXPECT_EQ(trainer.storage().iter(), trainer.iter());
    on_after_step(trainer);
  }
  Dict state_dict() const override { return {{"count", count}}; }
  void check_state_dict(const Dict& state) const override { ValueView(state)["count"].as_int(); }
  void load_state_dict(const Dict& state) override { count = state.at("count").as_int(); }
};

struct Quiet {
  std::vector<std::string> lines;
  LogCapture capture{[this](LogLevel level, std::string_view line) {
    if (level == LogLevel::warning) lines.emplace_back(line);
  }};
};

TEST(TrainerState, HoldsTheIterationAndEachHookUnderItsOwnKey) {
  Quiet quiet;
  Idle trainer;
  auto& first = trainer.add_hook<Counter>();
  trainer.add_hook<HookBase>();
  auto& second = trainer.add_hook<Counter>();
  first.count = 10;
  second.count = 20;
  trainer.train(0, 3);
  EXPECT_TRUE(
      identical(trainer.state_dict(),
                Dict{{"iteration", 2}, {"hooks", Dict{{"Counter", Dict{{"count", 13}}}, {"Counter#2", Dict{{"count", 23}}}}}}));
}

TEST(TrainerState, LoadGoesOnBehindTheIteration) {
  Quiet quiet;
  Idle trainer;
  auto& counter = trainer.add_hook<Counter>();
  const Dict state{{"iteration", 41}, {"hooks", Dict{{"Counter", Dict{{"count", 7}}}}}};
  trainer.check_state_dict(state);
  trainer.load_state_dict(state);
  EXPECT_EQ(counter.count, 7);
  EXPECT_EQ(trainer.iter(), 41);
  EXPECT_EQ(trainer.start_iter(), 42);
  EXPECT_TRUE(identical(trainer.state_dict(), state));
}

TEST(TrainerState, WithoutHooksTheKeyIsAbsent) {
  Idle trainer;
  trainer.load_state_dict({{"iteration", 5}});
  EXPECT_TRUE(identical(trainer.state_dict(), Dict{{"iteration", 5}}));
}

TEST(TrainerState, StateWithoutItsHookIsWarnedAboutKeptAndHandedOver) {
  Quiet quiet;
  Idle trainer;
  const Dict state{{"iteration", 1}, {"hooks", Dict{{"Counter", Dict{{"count", 1}}}, {"Counter#2", Dict{{"count", 2}}}}}};
  trainer.load_state_dict(state);
  EXPECT_EQ(quiet.lines.size(), 2u);
  EXPECT_NE(quiet.lines[1].find("'Counter#2'"), std::string::npos);
  EXPECT_TRUE(identical(trainer.state_dict(), state));
  EXPECT_EQ(trainer.add_hook<Counter>().count, 1);
  EXPECT_EQ(trainer.add_hook<Counter>().count, 2);
  EXPECT_EQ(trainer.add_hook<Counter>().count, 0);
}

TEST(TrainerState, WaitingStateSharesNothingWithWhatWasLoaded) {
  Quiet quiet;
  Idle trainer;
  const at::Tensor sums = at::zeros({2});
  trainer.load_state_dict({{"iteration", 1}, {"hooks", Dict{{"Gone", Dict{{"sums", sums}}}}}});
  sums.fill_(7);
  EXPECT_TRUE(identical(trainer.state_dict().at("hooks"), Dict{{"Gone", Dict{{"sums", at::zeros({2})}}}}));
}

TEST(TrainerState, WaitingStateThatDoesNotFitRefusesTheHook) {
  Quiet quiet;
  Idle trainer;
  trainer.load_state_dict({{"iteration", 1}, {"hooks", Dict{{"Counter", Dict{{"other", 1}}}}}});
  EXPECT_THROW(trainer.add_hook<Counter>(), FormatError);
  EXPECT_TRUE(trainer.hook_keys().empty());
}

struct Refusing final : HookBase {
  static inline bool refuses = true;
  std::int64_t count = 0;
  std::string key() const override { return "Refusing"; }
  void registered(TrainerBase&) override {
    if (refuses) throw Error("not yet");
  }
  void load_state_dict(const Dict& state) override { count = state.at("count").as_int(); }
};

TEST(TrainerState, WaitingStateStaysWhenItsHookRefuses) {
  Quiet quiet;
  Idle trainer;
  trainer.load_state_dict({{"iteration", 1}, {"hooks", Dict{{"Refusing", Dict{{"count", 5}}}}}});
  Refusing::refuses = true;
  EXPECT_THROW(trainer.add_hook<Refusing>(), Error);
  Refusing::refuses = false;
  EXPECT_EQ(trainer.add_hook<Refusing>().count, 5);
}

TEST(TrainerState, CheckFindsWhatLoadCouldNotTake) {
  Idle trainer;
  trainer.add_hook<Counter>();
  const auto refuses = [&](const Dict& state) { EXPECT_THROW(trainer.check_state_dict(state), FormatError) << describe(state); };
  refuses({});
  refuses({{"iteration", "5"}});
  refuses({{"iteration", -2}});
  refuses({{"iteration", std::numeric_limits<std::int64_t>::max()}});
  refuses({{"iteration", 5}, {"hooks", 3}});
  refuses({{"iteration", 5}, {"hooks", Dict{{"Counter", 3}}}});
  refuses({{"iteration", 5}, {"hooks", Dict{{"Counter", Dict{{"count", "x"}}}}}});
  refuses({{"iteration", 5}, {"hooks", Dict{{"Other", 3}}}});
  refuses({{"iteration", 5}, {"hooks", Dict{{3, Dict{}}}}});
  EXPECT_NO_THROW(trainer.check_state_dict({{"iteration", 5}, {"hooks", Dict{{"Other", Dict{}}}}}));
}

TEST(Position, SaysWhichHooksAreStillBehind) {
  Quiet quiet;
  Idle trainer;
  std::vector<Position> taken;
  const auto take = [&](TrainerBase& t) { taken.push_back(t.position()); };
  trainer.add_hook<Counter>().on_after_step = take;
  trainer.add_hook<Counter>().on_after_step = take;
  EXPECT_EQ(trainer.position().iteration, -1);
  trainer.train(4, 5);
  ASSERT_EQ(taken.size(), 2u);
  EXPECT_EQ(taken[0].iteration, 4);
  EXPECT_EQ(taken[0].after_step_index, 0);
  EXPECT_EQ(taken[0].hooks_behind, std::vector<std::string>{"Counter#2"});
  EXPECT_EQ(taken[1].after_step_index, 1);
  EXPECT_TRUE(taken[1].hooks_behind.empty());
  EXPECT_EQ(trainer.position().iteration, 4);
  EXPECT_EQ(trainer.position().after_step_index, 1);
}

struct Saver final : HookBase {
  Position position;
  Dict state;
  void after_step(TrainerBase& trainer) override {
    if (trainer.iter() != 2) return;
    position = trainer.position();
    state = trainer.state_dict();
  }
};

TEST(Position, AResumedRunCatchesUpWithTheHooksBehindTheSave) {
  Quiet quiet;
  const auto make = [](Idle& trainer) {
    Counter& before = trainer.add_hook<Counter>();
    Saver& saver = trainer.add_hook<Saver>();
    Counter& behind = trainer.add_hook<Counter>();
    return std::tuple<Counter&, Saver&, Counter&>(before, saver, behind);
  };
  Idle whole, resumed;
  auto [whole_before, saver, whole_behind] = make(whole);
  whole.train(0, 5);

  auto [before, unused, behind] = make(resumed);
  resumed.load_state_dict(saver.state);
  bool restored = false;
  resumed.resume_at(saver.position, [&] {
    restored = true;
    EXPECT_TRUE(behind.seen.empty());
  });
  resumed.train(resumed.start_iter(), 5);
  EXPECT_TRUE(restored);
  EXPECT_EQ(before.seen, (std::vector<std::int64_t>{3, 4}));
  EXPECT_EQ(behind.seen, (std::vector<std::int64_t>{2, 3, 4}));
  EXPECT_EQ(before.count, whole_before.count);
  EXPECT_EQ(behind.count, whole_behind.count);
}

TEST(Position, ThereIsNoneInsideAStepNorBehindOneThatFailed) {
  struct Trainer final : TrainerBase {
    void run_step() override {
      EXPECT_THROW(position(), Error);
      if (iter() == 1) throw FormatError("boom");
    }
  };
  struct Asks final : HookBase {
    void before_step(TrainerBase& t) override { EXPECT_EQ(t.position().iteration, t.iter() - 1); }
    void after_train(TrainerBase& t) override { EXPECT_THROW(t.position(), Error); }
  };
  Quiet quiet;
  Trainer trainer;
  trainer.add_hook<Asks>();
  EXPECT_THROW(trainer.train(0, 3), FormatError);
}

TEST(Position, OfAnEarlierLoadIsForgotten) {
  Quiet quiet;
  Idle trainer;
  auto& counter = trainer.add_hook<Counter>();
  trainer.resume_at({.iteration = 2, .after_step_index = -1, .hooks_behind = {"Counter"}}, {});
  trainer.load_state_dict({{"iteration", 2}});
  trainer.train(3, 3);
  EXPECT_TRUE(counter.seen.empty());
}

TEST(Position, IsOfNoUseForAnotherStart) {
  Quiet quiet;
  Idle trainer;
  auto& counter = trainer.add_hook<Counter>();
  trainer.resume_at({.iteration = 2, .after_step_index = -1, .hooks_behind = {"Counter"}}, [] { FAIL(); });
  trainer.train(7, 8);
  EXPECT_EQ(counter.seen, std::vector<std::int64_t>{7});
  EXPECT_EQ(quiet.lines.size(), 1u);
  trainer.train(3, 4);
  EXPECT_EQ(counter.seen, (std::vector<std::int64_t>{7, 3}));
}

TEST(Position, AFailureWhileCatchingUpIsAFailureOfTheRun) {
  Quiet quiet;
  Idle trainer;
  trainer.add_hook<Counter>().on_after_step = [](TrainerBase&) { throw FormatError("late"); };
  trainer.resume_at({.iteration = 2, .after_step_index = -1, .hooks_behind = {"Counter"}}, {});
  EXPECT_THROW(trainer.train(3, 4), FormatError);
  EXPECT_EQ(trainer.outcome(), Outcome::failed);
}

TEST(Hooks, AreToldOnceWhenTheyAreRegistered) {
  struct Told final : HookBase {
    int calls = 0;
    void registered(TrainerBase& trainer) override {
      ++calls;
      EXPECT_EQ(trainer.hook_keys().back(), "Told");
    }
  };
  Idle trainer;
  EXPECT_EQ(trainer.add_hook<Told>().calls, 1);
}

}  // namespace
}  // namespace treadle

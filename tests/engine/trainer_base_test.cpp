#include <tests/support/fake_group.hpp>
#include <treadle/base/log.hpp>
#include <treadle/engine.hpp>

#include <gtest/gtest.h>

#include <thread>

namespace treadle {
namespace {

using Events = std::vector<std::string>;

struct Recorder final : HookBase {
  Recorder(std::string name, Events& events) : name_(std::move(name)), events_(events) {}
  void before_train(TrainerBase& t) override { note("before_train", t); }
  void after_train(TrainerBase& t) override { note("after_train", t); }
  void before_step(TrainerBase& t) override { note("before_step", t); }
  void after_backward(TrainerBase& t) override { note("after_backward", t); }
  void after_step(TrainerBase& t) override { note("after_step", t); }
  void note(const std::string& call, TrainerBase& t) {
    EXPECT_EQ(t.iter(), t.storage().iter()) << call;
    EXPECT_EQ(&get_event_storage(), &t.storage());
    events_.push_back(name_ + "." + call + " " + std::to_string(t.iter()));
    if (throw_at == events_.back().substr(name_.size() + 1)) throw FormatError("boom in " + events_.back());
  }
  std::string throw_at;  // "call iteration"
  std::string name_;
  Events& events_;
};

struct Trainer final : TrainerBase {
  using TrainerBase::TrainerBase;
  std::int64_t fail_at = -1;
  std::function<void()> step = [] {};
  Events* events = nullptr;
  void run_step() override {
    if (events) events->push_back("run " + std::to_string(iter()));
    step();
    after_backward();
    if (iter() == fail_at) throw std::runtime_error("boom in run_step");
  }
};

struct Logs {
  Events lines;
  LogCapture capture{[this](LogLevel level, std::string_view line) {
    lines.push_back((level == LogLevel::error ? "ERROR " : level == LogLevel::warning ? "WARNING " : "") + std::string(line));
  }};
};

TEST(TrainerBase, CallsHooksInOrder) {
  Logs logs;
  Events events;
  Trainer trainer;
  trainer.events = &events;
  trainer.add_hook<Recorder>("a", events);
  trainer.add_hook<Recorder>("b", events);
  EXPECT_EQ(trainer.outcome(), Outcome::not_started);
  trainer.train(5, 7);
  EXPECT_EQ(events, (Events{"a.before_train 5", "b.before_train 5",                                                     //
                            "a.before_step 5", "b.before_step 5", "run 5", "a.after_backward 5", "b.after_backward 5",  //
                            "a.after_step 5", "b.after_step 5",                                                         //
                            "a.before_step 6", "b.before_step 6", "run 6", "a.after_backward 6", "b.after_backward 6",  //
                            "a.after_step 6", "b.after_step 6",                                                         //
                            "a.after_train 7", "b.after_train 7"}));
  EXPECT_EQ(trainer.outcome(), Outcome::completed);
  EXPECT_EQ(trainer.iter(), 7);
  EXPECT_EQ(trainer.start_iter(), 5);
  EXPECT_EQ(trainer.max_iter(), 7);
  EXPECT_EQ(logs.lines, Events{"Starting training from iteration 5"});
  EXPECT_FALSE(has_event_storage());
}

TEST(TrainerBase, AnEmptyRunEndsWhereItBegan) {
  Logs logs;
  Events events;
  Trainer trainer;
  trainer.add_hook<Recorder>("a", events);
  trainer.train(4, 4);
  EXPECT_EQ(events, (Events{"a.before_train 4", "a.after_train 4"}));
  EXPECT_EQ(trainer.iter(), 4);
  EXPECT_EQ(trainer.outcome(), Outcome::completed);
}

TEST(TrainerBase, AFailureIsLoggedWithItsIterationAndEveryAfterTrainRuns) {
  Logs logs;
  Events events;
  Trainer trainer;
  trainer.fail_at = 1;
  trainer.add_hook<Recorder>("a", events);
  trainer.add_hook<Recorder>("b", events);
  EXPECT_THROW(trainer.train(0, 9), std::runtime_error);
  EXPECT_EQ(events.at(events.size() - 2), "a.after_train 1");
  EXPECT_EQ(events.back(), "b.after_train 1");
  EXPECT_EQ(trainer.outcome(), Outcome::failed);
  EXPECT_EQ(trainer.iter(), 1);
  EXPECT_EQ(logs.lines.back(), "ERROR Exception during training in iteration 1: boom in run_step");
  EXPECT_TRUE(trainer.group().is_broken());
  EXPECT_THROW(trainer.group().synchronize(), CommError);
}

TEST(TrainerBase, ASecondFailureHidesNothing) {
  Logs logs;
  Events events;
  Trainer trainer;
  trainer.fail_at = 0;
  trainer.add_hook<Recorder>("a", events).throw_at = "after_train 0";
  trainer.add_hook<Recorder>("b", events);
  try {
    trainer.train(0, 3);
    FAIL();
  } catch (const std::runtime_error& error) {
    EXPECT_STREQ(error.what(), "boom in run_step");
  }
  EXPECT_EQ(events.back(), "b.after_train 0");
  EXPECT_EQ(logs.lines.back(), "ERROR Exception in after_train of Recorder in iteration 0: boom in a.after_train 0");
}

TEST(TrainerBase, AFailureInAfterTrainAloneGoesOnAfterTheOthersRan) {
  Logs logs;
  Events events;
  Trainer trainer;
  trainer.add_hook<Recorder>("a", events).throw_at = "after_train 2";
  trainer.add_hook<Recorder>("b", events).throw_at = "after_train 2";
  try {
    trainer.train(0, 2);
    FAIL();
  } catch (const FormatError& error) {
    EXPECT_STREQ(error.what(), "boom in a.after_train 2");
  }
  EXPECT_EQ(events.back(), "b.after_train 2");
  EXPECT_EQ(trainer.outcome(), Outcome::failed);
}

struct HookFailure : testing::TestWithParam<std::string> {};
TEST_P(HookFailure, EndsTheRunLikeAFailureOfTheStep) {
  Logs logs;
  Events events;
  Trainer trainer;
  trainer.add_hook<Recorder>("a", events).throw_at = GetParam();
  trainer.add_hook<Recorder>("b", events);
  EXPECT_THROW(trainer.train(0, 3), FormatError);
  EXPECT_EQ(events.back().substr(0, 13), "b.after_train");
  EXPECT_EQ(trainer.outcome(), Outcome::failed);
}
INSTANTIATE_TEST_SUITE_P(Every, HookFailure,
                         testing::Values("before_train 0", "before_step 1", "after_backward 1", "after_step 2"));

TEST(TrainerBase, ATrainerCanBeUsedAgainAfterAFailure) {
  Logs logs;
  Trainer trainer;
  trainer.fail_at = 1;
  EXPECT_THROW(trainer.train(0, 3), std::runtime_error);
  trainer.fail_at = -1;
  trainer.train(1, 3);
  EXPECT_EQ(trainer.outcome(), Outcome::completed);
  EXPECT_FALSE(trainer.group().is_broken());
}

TEST(TrainerBase, AStopIsActedOnOnceAfterEveryAfterStep) {
  Logs logs;
  Events events;
  Trainer trainer;
  trainer.add_hook<Recorder>("a", events);
  trainer.step = [&] {
    if (trainer.iter() != 2) return;
    trainer.request_stop("first reason");
    trainer.request_stop("second reason");
  };
  trainer.add_hook<Recorder>("b", events);
  trainer.train(0, 9);
  EXPECT_EQ(trainer.outcome(), Outcome::stopped);
  EXPECT_EQ(trainer.iter(), 3);
  EXPECT_EQ(trainer.stop_reason(), "first reason");
  EXPECT_EQ(events.at(events.size() - 3), "b.after_step 2");
  EXPECT_EQ(events.back(), "b.after_train 3");
  EXPECT_EQ(logs.lines.back(), "Stopping after iteration 2: first reason");
  trainer.step = [] {};
  trainer.train(3, 5);
  EXPECT_EQ(trainer.outcome(), Outcome::completed);
  EXPECT_EQ(trainer.stop_reason(), "");
  trainer.request_stop("before the run");
  trainer.train(5, 7);
  EXPECT_EQ(trainer.stop_reason(), "before the run");
}

TEST(TrainerBase, AStopInTheLastIterationIsACompleteRun) {
  Logs logs;
  Trainer trainer;
  trainer.step = [&] {
    if (trainer.iter() == 2) trainer.request_stop("too late");
  };
  trainer.train(0, 3);
  EXPECT_EQ(trainer.outcome(), Outcome::completed);
}

TEST(TrainerBase, AnotherThreadMayAskToStop) {
  Logs logs;
  Trainer trainer;
  std::thread asker;
  trainer.step = [&] {
    if (trainer.iter() == 0) asker = std::thread([&] { trainer.request_stop("from outside"); });
    if (trainer.iter() == 0) asker.join();
  };
  trainer.train(0, 1'000'000);
  EXPECT_EQ(trainer.iter(), 1);
}

TEST(TrainerBase, AGroupAgreesOnTheIterationOfAStop) {
  Logs logs;
  auto group = std::make_shared<FakeGroup>(0, 2);
  Trainer trainer({.group = group, .events = {}});
  // The other rank asks in iteration 3; a step without an exchange of its own has one behind it.
  group->play_exchange = [&](const std::vector<double>& own) {
    auto other = own;
    other[0] = trainer.iter() == 4 ? 1 : 0;  // the exchange behind iteration 3 runs before iteration 4 begins
    return StepRows{own, other};
  };
  trainer.train(0, 9);
  EXPECT_EQ(trainer.outcome(), Outcome::stopped);
  EXPECT_EQ(trainer.iter(), 4);
  EXPECT_EQ(group->exchanges, 4);
}

TEST(TrainerBase, AStepWithAnExchangeNeedsNoOther) {
  Logs logs;
  auto group = std::make_shared<FakeGroup>(1, 2);
  Trainer trainer({.group = group, .events = {}});
  group->play_exchange = [&](const std::vector<double>& own) {
    auto other = own;
    other[0] = trainer.iter() == 3 ? 1 : 0;
    return StepRows{other, own};
  };
  trainer.step = [&] {
    trainer.start_exchange({.losses = {{"loss", 1}}});
    trainer.finish_exchange();
  };
  trainer.train(0, 9);
  EXPECT_EQ(trainer.iter(), 4);
  EXPECT_EQ(group->exchanges, 4);
}

TEST(TrainerBase, AStopInTheFirstOfTwoExchangesCounts) {
  Logs logs;
  auto group = std::make_shared<FakeGroup>(0, 2);
  Trainer trainer({.group = group, .events = {}});
  group->play_exchange = [&](const std::vector<double>& own) {
    auto other = own;
    other[0] = group->exchanges == 5 ? 1 : 0;  // the first of the third iteration
    return StepRows{own, other};
  };
  trainer.step = [&] {
    for (int i = 0; i < 2; ++i) {
      trainer.start_exchange({});
      trainer.finish_exchange();
    }
  };
  trainer.train(0, 9);
  EXPECT_EQ(trainer.iter(), 3);
}

TEST(TrainerBase, ImpossibleRangesAndNestedRunsAreRefused) {
  Logs logs;
  Trainer trainer;
  EXPECT_THROW(trainer.train(3, 2), Error);
  EXPECT_THROW(trainer.train(-1, 2), Error);
  trainer.step = [&] { EXPECT_THROW(trainer.train(0, 1), Error); };
  trainer.train(0, 1);
}

TEST(TrainerBase, AFailureOfADerivedAfterTrainIsLoggedAndHidesNothing) {
  struct Derived final : TrainerBase {
    void run_step() override { throw std::runtime_error("first"); }
    void after_train() override { throw std::runtime_error("second"); }
  };
  Logs logs;
  Derived trainer;
  try {
    trainer.train(0, 1);
    FAIL();
  } catch (const std::runtime_error& error) {
    EXPECT_STREQ(error.what(), "first");
  }
  EXPECT_EQ(logs.lines.back(), "ERROR Exception in after_train in iteration 0: second");
}

TEST(TrainerBase, HooksAreNotRegisteredFromInsideAHook) {
  struct Registrar final : HookBase {
    explicit Registrar(std::string at) : at_(std::move(at)) {}
    void before_train(TrainerBase& t) override {
      if (at_ == "before_train") t.register_hook(std::make_unique<HookBase>());
    }
    void after_step(TrainerBase& t) override {
      if (at_ == "after_step") t.register_hook(std::make_unique<HookBase>());
    }
    void after_train(TrainerBase& t) override {
      if (at_ == "after_train") t.register_hook(std::make_unique<HookBase>());
    }
    std::string at_;
  };
  for (const char* at : {"before_train", "after_step", "after_train"}) {
    Logs logs;
    Trainer trainer;
    trainer.add_hook<Registrar>(at);
    EXPECT_THROW(trainer.train(0, 2), Error) << at;
    EXPECT_NO_THROW(trainer.add_hook<HookBase>());
  }
}

TEST(TrainerBase, AHookThatRefusesToBeRegisteredIsNotThere) {
  struct Refuses final : HookBase {
    void registered(TrainerBase&) override { throw Error("not here"); }
  };
  Trainer trainer;
  EXPECT_THROW(trainer.add_hook<Refuses>(), Error);
  EXPECT_TRUE(trainer.hook_keys().empty());
}

TEST(TrainerBase, ADerivedTrainerMayEndItsHooksBeforeWhatTheyBorrow) {
  struct Borrows final : HookBase {
    explicit Borrows(std::vector<int>& list) : list_(list) {}
    ~Borrows() override { list_.push_back(1); }
    std::vector<int>& list_;
  };
  struct Owner final : TrainerBase {
    ~Owner() override {
      clear_hooks();
      EXPECT_EQ(list.size(), 1u);
    }
    void run_step() override {}
    std::vector<int> list;
  };
  Owner owner;
  owner.add_hook<Borrows>(owner.list);
}

TEST(TrainerBase, NullHooksArePassedOver) {
  Trainer trainer;
  trainer.register_hook(nullptr);
  std::vector<std::unique_ptr<HookBase>> hooks;
  hooks.push_back(nullptr);
  trainer.register_hooks(std::move(hooks));
  EXPECT_TRUE(trainer.hook_keys().empty());
}

}  // namespace
}  // namespace treadle

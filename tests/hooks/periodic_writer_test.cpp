#include <tests/hooks/idle_trainer.hpp>
#include <tests/support/fake_group.hpp>
#include <treadle/base/errors.hpp>
#include <treadle/events/event_storage.hpp>
#include <treadle/hooks.hpp>

#include <gtest/gtest.h>

#include <cerrno>

namespace treadle {
namespace {

using Calls = std::vector<std::string>;

struct Recorder final : EventWriter {
  explicit Recorder(Calls& calls) : calls_(calls) {}
  void write(EventStorage& storage) override {
    calls_.push_back("write " + std::to_string(storage.iter()));
    if (fail) throw IoError("write", "metrics.json", ENOSPC);
  }
  void close() override { calls_.push_back("close"); }
  Dict state_dict() const override { return {{"written", static_cast<std::int64_t>(calls_.size())}}; }
  void check_state_dict(const Dict& state) const override {
    if (!state.contains("written")) throw FormatError("no written");
  }
  void load_state_dict(const Dict& state) override { calls_.push_back("load " + std::to_string(state.at("written").as_int())); }
  bool fail = false;
  Calls& calls_;
};

struct PeriodicWriterTest : testing::Test {
  Calls calls;
  Recorder* recorder = nullptr;
  hooks::PeriodicWriter& add(TrainerBase& trainer, std::int64_t period) {
    auto writer = std::make_unique<Recorder>(calls);
    recorder = writer.get();
    std::vector<hooks::PeriodicWriter::NamedWriter> writers;
    writers.emplace_back("recorder", std::move(writer));
    return trainer.add_hook<hooks::PeriodicWriter>(std::move(writers), period);
  }
};

TEST_F(PeriodicWriterTest, WritesEveryPeriodBehindTheLastIterationAndAtTheEnd) {
  IdleTrainer trainer;
  add(trainer, 3);
  trainer.train(0, 8);
  EXPECT_EQ(calls, (Calls{"write 2", "write 5", "write 7", "write 8", "close"}));
}

TEST_F(PeriodicWriterTest, ClosesAfterAFailure) {
  IdleTrainer trainer;
  add(trainer, 3);
  trainer.step = [&] {
    if (trainer.iter() == 4) throw FormatError("boom");
  };
  EXPECT_THROW(trainer.train(0, 8), FormatError);
  EXPECT_EQ(calls, (Calls{"write 2", "write 4", "close"}));
}

TEST_F(PeriodicWriterTest, WritesOnTheMainProcessAlone) {
  IdleTrainer trainer({.group = std::make_shared<FakeGroup>(1, 2), .events = {}});
  static_cast<FakeGroup&>(trainer.group()).play_exchange = [](const std::vector<double>& own) { return StepRows{own, own}; };
  add(trainer, 1);
  trainer.train(0, 2);
  EXPECT_TRUE(calls.empty());
}

TEST_F(PeriodicWriterTest, AWriterThatFailsDoesNotEndTheRun) {
  IdleTrainer trainer;
  add(trainer, 1);
  recorder->fail = true;
  trainer.train(0, 3);
  EXPECT_EQ(trainer.outcome(), Outcome::completed);
  EXPECT_EQ(calls.front(), "write 0");
  EXPECT_EQ(std::count_if(trainer.logs.begin(), trainer.logs.end(),
                          [](const auto& line) { return line.find("recorder pauses") != std::string::npos; }),
            1);
}

TEST_F(PeriodicWriterTest, TheLastWriteIsTriedHoweverLongTheWriterPauses) {
  IdleTrainer trainer;
  add(trainer, 1);
  recorder->fail = true;
  trainer.step = [&] { recorder->fail = trainer.iter() < 7; };
  trainer.train(0, 8);
  EXPECT_EQ(calls, (Calls{"write 0", "write 2", "write 5", "write 8", "close"}));
}

TEST_F(PeriodicWriterTest, StateIsThatOfTheWritersByName) {
  IdleTrainer trainer;
  auto& hook = add(trainer, 1);
  trainer.train(0, 2);
  EXPECT_TRUE(identical(hook.state_dict(), Dict{{"recorder", Dict{{"written", 4}}}}));
  EXPECT_THROW(hook.check_state_dict({{"recorder", Dict{}}}), FormatError);
  EXPECT_NO_THROW(hook.check_state_dict({{"another", Dict{}}}));
  hook.load_state_dict({{"recorder", Dict{{"written", 9}}}});
  EXPECT_EQ(calls.back(), "load 9");
}

TEST_F(PeriodicWriterTest, ThePeriodIsAtLeastOne) { EXPECT_THROW(hooks::PeriodicWriter({}, 0), ConfigError); }

}  // namespace
}  // namespace treadle

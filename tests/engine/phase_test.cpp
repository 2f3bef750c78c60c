#include <treadle/base/errors.hpp>
#include <treadle/engine.hpp>

#include <gtest/gtest.h>

namespace treadle {
namespace {

struct Idle final : TrainerBase {
  void run_step() override {}
};

struct PhaseHook final : HookBase {
  explicit PhaseHook(Phase phase) : phase_(phase) {}
  Phase phase() const override { return phase_; }
  std::string key() const override { return "Hook" + std::string(to_string(phase_)); }
  Phase phase_;
};

constexpr Phase kAll[] = {Phase::timing,     Phase::schedule,        Phase::statistics, Phase::checkpoint,
                          Phase::evaluation, Phase::best_checkpoint, Phase::reporting,  Phase::any};

/// The order in words: a level per phase; a lower one must precede a higher one, equal ones are free.
int level(Phase phase) {
  switch (phase) {
    case Phase::timing:
    case Phase::schedule:
    case Phase::statistics:
      return 0;
    case Phase::checkpoint:
    case Phase::evaluation:
      return 1;
    case Phase::best_checkpoint:
      return 2;
    case Phase::reporting:
      return 3;
    case Phase::any:
      return -1;
  }
  return -1;
}

struct PhasePair : testing::TestWithParam<std::tuple<Phase, Phase>> {};

TEST_P(PhasePair, MayStandInThisOrderOrIsRefused) {
  const auto [first, second] = GetParam();
  const bool legal = level(first) < 0 || level(second) < 0 || level(first) <= level(second);
  Idle trainer;
  trainer.add_hook<PhaseHook>(first);
  if (legal) {
    EXPECT_NO_THROW(trainer.add_hook<PhaseHook>(second));
    EXPECT_EQ(trainer.hook_keys().size(), 2u);
    return;
  }
  try {
    trainer.add_hook<PhaseHook>(second);
    FAIL() << to_string(first) << " before " << to_string(second) << " was accepted";
  } catch (const Error& error) {
    const std::string text = error.what();
    EXPECT_NE(text.find("Hook" + std::string(to_string(second))), std::string::npos) << text;
    EXPECT_NE(text.find("order: "), std::string::npos) << text;
  }
  EXPECT_EQ(trainer.hook_keys().size(), 1u);
}

INSTANTIATE_TEST_SUITE_P(Every, PhasePair, testing::Combine(testing::ValuesIn(kAll), testing::ValuesIn(kAll)),
                         [](const auto& pair) {
                           std::string name = std::string(to_string(std::get<0>(pair.param))) + "_then_" +
                                              std::string(to_string(std::get<1>(pair.param)));
                           std::replace(name.begin(), name.end(), ' ', '_');
                           return name;
                         });

}  // namespace
}  // namespace treadle

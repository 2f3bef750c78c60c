// Detectron2 hands each state in "hooks" to its hook of that class name. Our PeriodicWriter, BestCheckpointer and PreciseBN have
// a state, its own take none, so it died of AttributeError where it should have gone on.
#include <treadle/engine/trainer_base.hpp>

#include <gtest/gtest.h>

namespace treadle {
namespace {

struct Idle : TrainerBase {
  void run_step() override {}
};

struct Named final : HookBase {
  explicit Named(std::string name) : name_(std::move(name)) {}
  std::string key() const override { return name_; }
  Dict state_dict() const override { return {{"number", number}}; }
  void load_state_dict(const Dict& state) override { number = state.at("number").as_int(); }

  std::int64_t number = 0;

 private:
  std::string name_;
};

// The hooks of detectron2/engine/hooks.py that inherit HookBase.state_dict and have no load_state_dict.
constexpr const char* kStateless[] = {"CallbackHook",     "IterationTimer",   "PeriodicWriter", "PeriodicCheckpointer",
                                      "TorchProfiler",    "AutogradProfiler", "EvalHook",       "PreciseBN",
                                      "BestCheckpointer", "TorchMemoryStats"};

TEST(Regressions, Detectron2FindsNoStateForAHookThatTakesNone) {
  for (const char* name : kStateless) {
    Idle trainer;
    trainer.add_hook<Named>(name).number = 1;
    trainer.add_hook<Named>(name).number = 2;
    trainer.add_hook<Named>("LRScheduler").number = 3;
    const Dict state = trainer.state_dict();
    EXPECT_TRUE(identical(state.at("hooks"), Dict{{"LRScheduler", Dict{{"number", 3}}}})) << name;

    Idle resumed;
    auto& first = resumed.add_hook<Named>(name);
    auto& second = resumed.add_hook<Named>(name);
    resumed.check_state_dict(state);
    resumed.load_state_dict(state);
    EXPECT_EQ(first.number, 1) << name;
    EXPECT_EQ(second.number, 2) << name;
  }
}

TEST(Regressions, StatesOfHooksAreFoundWhereTheyWereSavedBefore) {
  Idle trainer;
  auto& writer = trainer.add_hook<Named>("PeriodicWriter");
  const Dict state{{"iteration", 1}, {"hooks", Dict{{"PeriodicWriter", Dict{{"number", 5}}}}}};
  trainer.check_state_dict(state);
  trainer.load_state_dict(state);
  EXPECT_EQ(writer.number, 5);
}

}  // namespace
}  // namespace treadle

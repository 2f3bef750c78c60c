// A run that was to be resumed with a smaller SOLVER.MAX_ITER had the saved weights already when its schedule was asked for a
// rate behind its end and threw: what the user read was about progress 2 of a multi-step schedule.
#include <tests/defaults/tiny_run.hpp>
#include <treadle/base/errors.hpp>
#include <treadle/base/log.hpp>
#include <treadle/base/module_state.hpp>
#include <treadle/defaults.hpp>
#include <treadle/models/model.hpp>

#include <gtest/gtest.h>

#include <string_view>

namespace treadle {
namespace {

Dict state_of(DefaultTrainer& trainer) {
  Dict state = trainer.state_dict();
  state.set("model", module_state_dict(trainer.model()));
  return deep_clone(state);
}

TEST(Regressions, ARunThatHasComeFurtherIsRefusedWhole) {
  const LogCapture quiet([](LogLevel, std::string_view) {});
  const TinyRun run;
  for (const char* schedule : {"WarmupMultiStepLR", "WarmupCosineLR", "WarmupStepWithFixedGammaLR"}) {
    const TemporaryFolder output;
    const auto config = [&](const char* max_iter) {
      return run.config(output / ".",
                        {"SOLVER.LR_SCHEDULER_NAME", schedule, "SOLVER.MAX_ITER", max_iter, "TEST.EVAL_PERIOD", "0"});
    };
    DefaultTrainer(config("12"), nullptr).train();
    DefaultTrainer shorter(config("6"), nullptr);
    const Dict before = state_of(shorter);
    try {
      shorter.resume_or_load(true);
      EXPECT_STREQ(schedule, "WarmupCosineLR");  // has rates behind its end: the state fits, and only `train` cannot go on
      shorter.train();
      ADD_FAILURE() << schedule;
    } catch (const ConfigError& error) {
      EXPECT_EQ(error.key(), "SOLVER.MAX_ITER") << schedule;
      EXPECT_NE(std::string(error.what()).find("it would go on at iteration 12"), std::string::npos) << error.what();
    }
    if (std::string_view(schedule) != "WarmupCosineLR") {
      EXPECT_TRUE(identical(state_of(shorter), before)) << schedule;
      EXPECT_EQ(shorter.start_iter(), 0) << schedule;
    }
    DefaultTrainer equal(config("12"), nullptr);
    EXPECT_NO_THROW(equal.resume_or_load(true)) << schedule;
    EXPECT_EQ(equal.start_iter(), 12) << schedule;
  }
}

}  // namespace
}  // namespace treadle

// `model_ema.pth` said the last iteration and was the file written last, so a run whose `model_final.pth` was damaged took it for
// the newest checkpoint, began at iteration 0 with the averages, and wrote over the good ones.
#include <tests/defaults/tiny_run.hpp>
#include <treadle/base/log.hpp>
#include <treadle/checkpoint/file.hpp>
#include <treadle/defaults.hpp>

#include <gtest/gtest.h>

namespace treadle {
namespace {

namespace fs = std::filesystem;

TEST(Regressions, AveragedWeightsAreNoCheckpointToFallBackTo) {
  const LogCapture quiet([](LogLevel, std::string_view) {});
  const TinyRun run;
  const TemporaryFolder output;
  const Config config = run.config(output / ".", {"TREADLE.EMA.ENABLED", "True", "SOLVER.MAX_ITER", "20",
                                                  "SOLVER.CHECKPOINT_PERIOD", "5", "TEST.EVAL_PERIOD", "0"});
  DefaultTrainer(config, nullptr).train();
  const auto start_of_resumed_run = [&] {
    DefaultTrainer trainer(config, nullptr);
    trainer.resume_or_load(true);
    return trainer.start_iter();
  };
  Value averages = load_checkpoint_file(output / "model_ema.pth");
  EXPECT_FALSE(averages.as_dict().contains("iteration"));
  EXPECT_EQ(averages.as_dict().at("ema").as_dict().at("iteration").as_int(), 19);
  fs::resize_file(output / "model_final.pth", 500);
  EXPECT_EQ(start_of_resumed_run(), 20);
  EXPECT_EQ(read_text(output / "last_checkpoint"), "model_0000019.pth");

  // As earlier versions saved them.
  averages.as_dict().set("iteration", 19);
  save_checkpoint_file(output / "model_ema.pth", averages);
  fs::resize_file(output / "model_0000019.pth", 500);
  EXPECT_EQ(start_of_resumed_run(), 15);
  EXPECT_EQ(read_text(output / "last_checkpoint"), "model_0000014.pth");
}

}  // namespace
}  // namespace treadle

// A new run in the folder of a longer one left the old checkpoints of later iterations in place, and a resume that had lost its
// last checkpoint took them for its own.
#include <tests/checkpoint/small_model.hpp>
#include <tests/defaults/tiny_run.hpp>
#include <treadle/base/log.hpp>
#include <treadle/checkpoint/checkpointer.hpp>
#include <treadle/defaults.hpp>

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <chrono>

namespace treadle {
namespace {

namespace fs = std::filesystem;

TEST(Regressions, ARunThatLostItsLastCheckpointGoesOnFromItsOwn) {
  const LogCapture quiet([](LogLevel, std::string_view) {});
  const TinyRun run;
  const TemporaryFolder output;
  const auto config = [&](const char* iterations) {
    return run.config(output / ".", {"SOLVER.MAX_ITER", iterations, "TEST.EVAL_PERIOD", "0"});
  };
  DefaultTrainer(config("20"), nullptr).train();
  set_aside_previous_run(output.path());
  DefaultTrainer(config("6"), nullptr).train();  // writes over model_0000004.pth, and ends with model_final.pth
  {
    DefaultTrainer longer(config("12"), nullptr);
    longer.resume_or_load();
    longer.train();  // of the same run: model_0000009.pth
  }
  fs::resize_file(output / "model_final.pth", 500);
  DefaultTrainer trainer(config("20"), nullptr);
  trainer.resume_or_load();
  EXPECT_EQ(trainer.start_iter(), 10);
  EXPECT_EQ(read_text(output / "last_checkpoint"), "model_0000009.pth");
}

/// The model holds the number of the iteration and, in hundreds, that of the run.
struct FallBack : testing::Test {
  TemporaryFolder folder;
  LogCapture quiet{[](LogLevel, std::string_view) {}};

  fs::path file(int iteration) const { return folder.path() / fmt::format("model_{:07d}.pth", iteration); }
  void save(int run, int iteration, bool says_when_it_began = true) const {
    SmallModel model(100 * run + iteration);
    Dict extras{{"iteration", iteration}};
    if (says_when_it_began) extras.set("treadle", Dict{{"begun", run}});
    Checkpointer(model, folder.path()).save(file(iteration).stem().string(), extras);
  }
  /// What a resume finds that cannot use the checkpoint after `lost`.
  double resumed_without(int lost) const {
    fs::resize_file(file(lost), 200);
    SmallModel model;
    Checkpointer(model, folder.path()).resume_or_load("");
    return model.value();
  }
};

TEST_F(FallBack, TheNewestIsOfTheRunThatBeganLastWhateverTheTimesOfFiles) {
  for (const int iteration : {4, 9, 14, 19}) save(1, iteration);
  for (const int iteration : {4, 9}) save(2, iteration);
  for (const int iteration : {14, 19})
    fs::last_write_time(file(iteration), fs::file_time_type::clock::now() + std::chrono::hours(1));
  EXPECT_EQ(resumed_without(9), 204);
  EXPECT_EQ(read_text(folder / "last_checkpoint"), "model_0000004.pth");
}

TEST_F(FallBack, OneOfAnEarlierRunIsBetterThanNone) {
  for (const int iteration : {4, 9, 14}) save(1, iteration);
  save(2, 9);
  EXPECT_EQ(resumed_without(9), 114);
}

TEST_F(FallBack, OneThatLacksWhatIsToBeResumedComesLast) {
  save(1, 14, /*says_when_it_began=*/false);  // a model alone
  SmallModel model(0);
  Counter trainer;
  Checkpointer checkpointer(model, folder.path());
  checkpointer.add_checkpointable("trainer", trainer);
  for (const int iteration : {4, 9}) {
    model.fill(200 + iteration);
    checkpointer.save(file(iteration).stem().string(), {{"iteration", iteration}});
  }
  fs::resize_file(file(9), 200);
  checkpointer.resume_or_load("");
  EXPECT_EQ(model.value(), 204);
}

TEST_F(FallBack, OfARunThatDoesNotSayTheLatestIterationCounts) {
  for (const int iteration : {14, 9, 19, 4}) save(1, iteration, /*says_when_it_began=*/false);
  fs::resize_file(file(4), 200);
  EXPECT_EQ(resumed_without(19), 114);
}

}  // namespace
}  // namespace treadle

// A new run in the folder of a longer one left the old checkpoints of later iterations in place, and a resume that had lost its
// last checkpoint took them for its own.
#include <tests/checkpoint/small_model.hpp>
#include <tests/support/temporary_folder.hpp>
#include <treadle/base/log.hpp>
#include <treadle/checkpoint/checkpointer.hpp>
#include <treadle/defaults/default_setup.hpp>

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <chrono>

namespace treadle {
namespace {

namespace fs = std::filesystem;

/// A folder in which the times of all files are chosen; the model holds the number of the iteration, and that of the run.
struct FallBack : testing::Test {
  TemporaryFolder folder;
  std::vector<std::string> logs;
  LogCapture capture{[this](LogLevel, std::string_view line) { logs.emplace_back(line); }};

  fs::path file(int iteration) const { return folder.path() / fmt::format("model_{:07d}.pth", iteration); }
  void at_minute(const fs::path& path, int minute) const {
    fs::last_write_time(path, fs::file_time_type::clock::now() - std::chrono::hours(24) + std::chrono::minutes(minute));
  }
  void save(int run, int iteration, int minute) const {
    SmallModel model(100 * run + iteration);
    Checkpointer(model, folder.path()).save(file(iteration).stem().string(), {{"iteration", iteration}});
    at_minute(file(iteration), minute);
    at_minute(folder / "last_checkpoint", minute);
  }
  /// Run 1 gets to iteration 19, run 2 to 9.
  void two_runs() const {
    for (const int iteration : {4, 9, 14, 19}) save(1, iteration, iteration);
    set_aside_previous_run(folder.path());
    at_minute(folder / "previous-1", 30);
    for (const int iteration : {4, 9}) save(2, iteration, 31 + iteration);
  }
  /// What a resume finds that cannot use the checkpoint after `lost`.
  double resumed_without(int lost) const {
    fs::resize_file(file(lost), 200);
    SmallModel model;
    Checkpointer(model, folder.path()).resume_or_load("");
    return model.value();
  }
  bool warned_of_an_earlier_run() const {
    return std::ranges::any_of(logs, [](const std::string& line) { return line.find("an earlier run") != std::string::npos; });
  }
};

TEST_F(FallBack, TheNewestGoodOneIsOfThisRun) {
  two_runs();
  logs.clear();
  EXPECT_EQ(resumed_without(9), 204);
  EXPECT_EQ(read_text(folder / "last_checkpoint"), "model_0000004.pth");
  EXPECT_FALSE(warned_of_an_earlier_run());
}

TEST_F(FallBack, OneOfAnEarlierRunIsBetterThanNoneAndIsSaid) {
  two_runs();
  fs::remove(file(4));
  logs.clear();
  EXPECT_EQ(resumed_without(9), 119);
  EXPECT_TRUE(warned_of_an_earlier_run());
}

TEST_F(FallBack, InACopyWithoutTimesTheLatestIterationCounts) {
  for (const int iteration : {4, 9, 14, 19}) save(1, iteration, iteration);
  for (const auto& [iteration, minute] : {std::pair(19, 50), std::pair(4, 51), std::pair(14, 52), std::pair(9, 53)})
    at_minute(file(iteration), minute);
  at_minute(folder / "last_checkpoint", 52);
  EXPECT_EQ(resumed_without(19), 114);
}

TEST_F(FallBack, InACopyOfTwoRunsToo) {
  save(1, 4, 4);
  set_aside_previous_run(folder.path());
  for (const int iteration : {4, 9, 14}) save(2, iteration, 31 + iteration);
  // As by the order of names, but for one that came late.
  at_minute(folder / "last_checkpoint", 50);
  at_minute(file(9), 51);
  at_minute(file(14), 52);
  at_minute(folder / "previous-1", 53);
  at_minute(file(4), 54);
  logs.clear();
  EXPECT_EQ(resumed_without(14), 209);
  EXPECT_FALSE(warned_of_an_earlier_run());
}

TEST_F(FallBack, AClockThatIsPutBackMakesNoneOfAnEarlierRun) {
  two_runs();
  for (const int iteration : {14, 19}) save(2, iteration, 20 + iteration / 5);
  EXPECT_EQ(resumed_without(19), 214);
}

}  // namespace
}  // namespace treadle

// TREADLE.SOLVER.RESUME "saved" looked for SOLVER.MAX_ITER in the last checkpoint, and its damage ended the command before the
// run could resume from the one before.
#include <tests/defaults/tiny_run.hpp>
#include <treadle/base/log.hpp>
#include <treadle/checkpoint/file.hpp>
#include <treadle/defaults.hpp>

#include <gtest/gtest.h>

#include <algorithm>

namespace treadle {
namespace {

namespace fs = std::filesystem;

struct SavedSettings : testing::Test {
  TinyRun run;
  TemporaryFolder output;
  std::vector<std::string> logs;
  LogCapture capture{[this](LogLevel, std::string_view line) { logs.emplace_back(line); }};
  std::string last = output / "model_final.pth";

  void SetUp() override { DefaultTrainer(run.config(output / "."), nullptr).train(); }
  Config resumed() {
    Config config = run.config(output / ".", {"TREADLE.SOLVER.RESUME", "saved", "SOLVER.MAX_ITER", "24"});
    logs.clear();
    take_saved_max_iter(config);
    return config;
  }
  bool warned() const {
    return std::ranges::any_of(logs, [](const std::string& line) {
      return line.find("model_final.pth") != std::string::npos && line.find("SOLVER.MAX_ITER") != std::string::npos;
    });
  }
};

TEST_F(SavedSettings, ADamagedCheckpointIsSaidAndTheRunResumes) {
  fs::resize_file(last, 500);
  const Config config = resumed();
  EXPECT_EQ(config.get_int("SOLVER.MAX_ITER"), 24);
  EXPECT_TRUE(warned());
  DefaultTrainer trainer(config, nullptr);
  trainer.resume_or_load(true);
  EXPECT_EQ(trainer.start_iter(), 10);
}

TEST_F(SavedSettings, SoIsOneThatIsGoneOrHoldsSomethingElse) {
  for (const Value& content : {Value(List{1}), Value(Dict{{"treadle", 1}}), Value(Dict{{"treadle", Dict{{"max_iter", "12"}}}})}) {
    save_checkpoint_file(last, content);
    EXPECT_EQ(resumed().get_int("SOLVER.MAX_ITER"), 24);
    EXPECT_TRUE(warned()) << describe(content);
  }
  fs::remove(last);
  EXPECT_EQ(resumed().get_int("SOLVER.MAX_ITER"), 24);
  EXPECT_TRUE(warned());
}

}  // namespace
}  // namespace treadle

// `treadle evaluate --resume` cleaned up as a run that resumes does: it removed the file that a run still going on was writing,
// which then failed to rename it, set damaged checkpoints aside, and had the run resume from another.
#include <tests/defaults/tiny_run.hpp>
#include <treadle/base/log.hpp>
#include <treadle/checkpoint/file_system.hpp>
#include <treadle/defaults.hpp>

#include <gtest/gtest.h>

#include <algorithm>

namespace treadle {
namespace {

namespace fs = std::filesystem;

/// The names in a folder, sorted.
std::vector<std::string> names_in(const fs::path& folder) {
  std::vector<std::string> names;
  for (const FolderEntry& entry : local_file_system()->list(folder)) names.push_back(entry.name);
  std::sort(names.begin(), names.end());
  return names;
}

TEST(Regressions, AnEvaluationLeavesTheRunAsItIs) {
  const LogCapture quiet([](LogLevel, std::string_view) {});
  const TinyRun run;
  const TemporaryFolder output;
  const auto loss = [&](std::vector<std::string> weights) {
    const bool resume = weights.empty();
    weights.insert(weights.end(), {"TREADLE.EVALUATORS", "['LossEvaluator']"});
    const Dict results = evaluate_weights(run.config(output / ".", weights), nullptr, resume);
    return results.at("loss").as_dict().at("total_loss").as_double();
  };
  DefaultTrainer(run.config(output / "."), nullptr).train();
  write_text(output / ".model_0000999.pth.treadle-tmp", "the run is writing this");
  const std::vector<std::string> names = names_in(output.path());
  const double last = loss({});
  EXPECT_EQ(last, loss({"MODEL.WEIGHTS", output / "model_final.pth"}));
  EXPECT_EQ(names_in(output.path()), names);

  fs::resize_file(output / "model_final.pth", 500);
  const double newest_good = loss({});
  EXPECT_NE(newest_good, last);
  EXPECT_EQ(newest_good, loss({"MODEL.WEIGHTS", output / "model_0000009.pth"}));
  EXPECT_EQ(names_in(output.path()), names);
  EXPECT_EQ(fs::file_size(output / "model_final.pth"), 500u);
  EXPECT_EQ(read_text(output / "last_checkpoint"), "model_final.pth");
}

}  // namespace
}  // namespace treadle

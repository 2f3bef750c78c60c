// A run of DefaultTrainer beside a plain loop in Python, from the same weights with the same data in the same order: every loss
// is equal in every bit.
#include <tests/defaults/tiny_run.hpp>
#include <tests/support/process.hpp>
#include <tests/support/source_folder.hpp>
#include <treadle/base/log.hpp>
#include <treadle/defaults.hpp>
#include <treadle/hooks/callback_hook.hpp>

#include <ATen/Parallel.h>
#include <gtest/gtest.h>

#include <bit>

namespace treadle {
namespace {

namespace fs = std::filesystem;

constexpr std::int64_t kIterations = 200;

TEST(PythonLosses, AreEqualInEveryBit) {
  const fs::path root = source_folder(), python = root / ".venv/bin/python";
  if (!fs::exists(python)) GTEST_SKIP() << python << " is absent: there is no Python to run beside";
  const LogCapture quiet([](LogLevel, std::string_view) {});
  at::set_num_threads(1);
  const TinyRun run;
  const TemporaryFolder output;
  Builders builders = default_builders();
  std::vector<double> losses;
  builders.hooks = [&, build = builders.hooks](DefaultTrainer& trainer) {
    auto list = build(trainer);
    list.push_back(std::make_unique<hooks::CallbackHook>(hooks::Callbacks{
        .after_step = [&](TrainerBase& trained) { losses.push_back(trained.storage().history("total_loss").latest()); }}));
    return list;
  };
  DefaultTrainer trainer(
      run.config(output / "run", {"TREADLE.CLASSIFIER.DROPOUT", "0.0", "INPUT.RANDOM_FLIP", "none", "SOLVER.LR_SCHEDULER_NAME",
                                  "WarmupMultiStepLR", "SOLVER.WARMUP_ITERS", "0", "SOLVER.STEPS", "(120,)", "SOLVER.MAX_ITER",
                                  std::to_string(kIterations), "SOLVER.CHECKPOINT_PERIOD", "1000", "TEST.EVAL_PERIOD", "0"}),
      nullptr, builders);
  trainer.checkpointer().save_aside("first", {}, Checkpointer::Parts::model);
  trainer.train();

  const ProcessResult result =
      run_process({python.string(), (root / "tests/defaults/plain_loop.py").string(), output / "run/first.pth",
                   run.data.path().string(), "3", "16", std::to_string(kIterations), "0.05", "120"});
  ASSERT_EQ(result.status, 0) << result.err;
  const std::vector<std::string> lines = lines_of(result.out);
  ASSERT_EQ(static_cast<std::int64_t>(lines.size()), kIterations);
  ASSERT_EQ(losses.size(), lines.size());
  for (std::size_t i = 0; i < lines.size(); ++i) {
    const double expected = std::strtod(lines[i].c_str(), nullptr);
    ASSERT_EQ(std::bit_cast<std::uint64_t>(losses[i]), std::bit_cast<std::uint64_t>(expected))
        << "iteration " << i << ": " << losses[i] << " and " << expected;
  }
  EXPECT_LT(losses.back(), losses.front() / 10);  // it has learned something
}

}  // namespace
}  // namespace treadle

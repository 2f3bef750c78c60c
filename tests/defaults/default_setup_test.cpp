#include <tests/defaults/tiny_run.hpp>
#include <tests/support/fake_group.hpp>
#include <treadle/base/device.hpp>
#include <treadle/base/errors.hpp>
#include <treadle/base/log.hpp>
#include <treadle/defaults.hpp>

#include <ATen/Context.h>
#include <ATen/Parallel.h>
#include <ATen/ops/mm.h>
#include <ATen/ops/rand.h>
#include <gtest/gtest.h>
#include <unistd.h>

namespace treadle {
namespace {

namespace fs = std::filesystem;

struct DefaultSetup : testing::Test {
  TinyRun run;
  TemporaryFolder output;
  std::shared_ptr<Group> group = make_single_process_group();
  void TearDown() override { configure_log({}); }
};

TEST_F(DefaultSetup, MakesTheFolderTheLogAndTheConfig) {
  const std::string folder = output / "a/b";
  const Config config = run.config(folder);
  default_setup(config, *group, {.command_line = {"treadle", "train"}});
  const std::string log = read_text(folder + "/log.txt");
  EXPECT_NE(log.find("Command line: treadle train"), std::string::npos);
  EXPECT_NE(log.find("LibTorch"), std::string::npos);
  EXPECT_NE(log.find("MAX_ITER: 12"), std::string::npos);
  Config again = default_config();
  again.merge_from_file(folder + "/config.yaml");
  EXPECT_TRUE(identical(Value(again.to_dict()), Value(config.to_dict())));
  EXPECT_FALSE(fs::exists(folder + "/config.yaml.tmp"));
  EXPECT_FALSE(fs::exists(folder + "/.treadle_probe"));
}

TEST_F(DefaultSetup, AFolderThatCannotBeWrittenIsSaid) {
  write_text(output / "file", "x");
  EXPECT_THROW(default_setup(run.config(output / "file/run"), *group), IoError);
  EXPECT_THROW(default_setup(run.config(output / "file"), *group), IoError);
  EXPECT_THROW(default_setup(run.config("/proc/treadle"), *group), IoError);
  EXPECT_THROW(default_setup(run.config(""), *group), ConfigError);
}

TEST_F(DefaultSetup, SeedsByTheConfigAndTheRank) {
  const auto draw = [&](const char* seed, Group& of) {
    default_setup(run.config(output / "run", {"SEED", seed}), of);
    return at::rand({4});
  };
  FakeGroup second(1, 2);
  const auto first = draw("5", *group);
  EXPECT_TRUE(first.equal(draw("5", *group)));
  EXPECT_FALSE(first.equal(draw("6", *group)));
  EXPECT_FALSE(first.equal(draw("5", second)));
  EXPECT_FALSE(draw("-1", *group).equal(draw("-1", *group)));
  EXPECT_TRUE(fs::exists(output / "run/log.txt.rank1"));
}

TEST_F(DefaultSetup, SetsTheThreads) {
  const int before = at::get_num_threads();
  default_setup(run.config(output / "run", {"TREADLE.THREADS", "1"}), *group);
  EXPECT_EQ(at::get_num_threads(), 1);
  default_setup(run.config(output / "run", {"TREADLE.THREADS", "0"}), *group);
  EXPECT_EQ(at::get_num_threads(), 1);
  at::set_num_threads(before);
  EXPECT_THROW(default_setup(run.config(output / "run", {"TREADLE.THREADS", "-1"}), *group), ConfigError);
}

TEST_F(DefaultSetup, SetsWhatCudnnMayTryForTrainingAlone) {
  at::Context& context = at::globalContext();
  const bool before = context.benchmarkCuDNN();
  default_setup(run.config(output / "run", {"CUDNN_BENCHMARK", "True"}), *group);
  EXPECT_TRUE(context.benchmarkCuDNN());
  context.setBenchmarkCuDNN(false);
  default_setup(run.config(output / "run", {"CUDNN_BENCHMARK", "True"}), *group, {.eval_only = true});
  EXPECT_FALSE(context.benchmarkCuDNN());
  context.setBenchmarkCuDNN(before);
}

TEST_F(DefaultSetup, OnTheCpuProductsStayWhatTheyAre) {
  if (accelerator_count() > 0) GTEST_SKIP() << "there is an accelerator, which FLOAT32_PRECISION is for";
  const at::Tensor a = at::rand({64, 64}), b = at::rand({64, 64});
  const at::Tensor before = at::mm(a, b);
  default_setup(run.config(output / "run", {"FLOAT32_PRECISION", "medium"}), *group);
  EXPECT_EQ(at::globalContext().float32MatmulPrecision(), at::Float32MatmulPrecision::HIGHEST);
  EXPECT_TRUE(at::mm(a, b).equal(before));
}

TEST_F(DefaultSetup, ANewRunSetsTheTracesOfAnEarlierOneAside) {
  const std::string folder = output / "run";
  fs::create_directories(folder);
  write_text(folder + "/metrics.json", "{}\n");
  write_text(folder + "/last_checkpoint", "model_final.pth");
  default_setup(run.config(folder), *group);
  EXPECT_TRUE(fs::exists(folder + "/last_checkpoint"));
  EXPECT_TRUE(set_aside_previous_run(folder));
  EXPECT_FALSE(set_aside_previous_run(folder));
  EXPECT_FALSE(fs::exists(folder + "/metrics.json"));
  EXPECT_FALSE(fs::exists(folder + "/last_checkpoint"));
  EXPECT_EQ(read_text(folder + "/previous-1/metrics.json"), "{}\n");
  const std::string too_long = folder + "/" + std::string(300, 'x');
  EXPECT_THROW(set_aside_previous_run(too_long), IoError);
  EXPECT_THROW(default_writers(too_long, 1), IoError);
  EXPECT_NE(read_text(folder + "/log.txt").find("--resume"), std::string::npos);
  write_text(folder + "/last_checkpoint", "model_final.pth");
  EXPECT_TRUE(set_aside_previous_run(folder));
  EXPECT_TRUE(fs::exists(folder + "/previous-2/last_checkpoint"));
}

TEST_F(DefaultSetup, AnEvaluationLeavesTheConfigOfTheRun) {
  default_setup(run.config(output / "run"), *group);
  const std::string before = read_text(output / "run/config.yaml");
  default_setup(run.config(output / "run", {"SEED", "77"}), *group, {.eval_only = true});
  EXPECT_EQ(read_text(output / "run/config.yaml"), before);
}

}  // namespace
}  // namespace treadle

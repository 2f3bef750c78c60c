#include <tests/hooks/idle_trainer.hpp>
#include <treadle/base/errors.hpp>
#include <treadle/checkpoint/checkpointer.hpp>
#include <treadle/checkpoint/file.hpp>
#include <treadle/hooks.hpp>

#include <gtest/gtest.h>
#include <torch/nn/modules/linear.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>

namespace treadle {
namespace {

namespace fs = std::filesystem;
using Names = std::vector<std::string>;

struct PeriodicCheckpointerTest : testing::Test {
  fs::path folder = fs::temp_directory_path() / ("treadle_periodic_" + std::to_string(::getpid()));
  torch::nn::Linear model{1, 1};
  IdleTrainer trainer;
  std::unique_ptr<Checkpointer> checkpointer;

  void SetUp() override {
    fs::remove_all(folder);
    checkpointer = std::make_unique<Checkpointer>(*model, folder);
    checkpointer->add_checkpointable("trainer", trainer);
  }
  void TearDown() override { fs::remove_all(folder); }

  Names files() const {
    Names names;
    for (const auto& file : checkpointer->get_all_checkpoint_files()) names.push_back(file.filename().string());
    return names;
  }
  std::string last() const { return checkpointer->get_checkpoint_file().filename().string(); }
  std::int64_t iteration_in(const std::string& name) const {
    return load_checkpoint_file(folder / name).as_dict().at("iteration").as_int();
  }
};

TEST_F(PeriodicCheckpointerTest, SavesEveryPeriodAndTheEnd) {
  trainer.add_hook<hooks::PeriodicCheckpointer>(*checkpointer, hooks::PeriodicCheckpointerOptions{.period = 3});
  trainer.train(0, 10);
  EXPECT_EQ(files(), (Names{"model_0000002.pth", "model_0000005.pth", "model_0000008.pth", "model_final.pth"}));
  EXPECT_EQ(last(), "model_final.pth");
  EXPECT_EQ(iteration_in("model_0000005.pth"), 5);
  EXPECT_EQ(iteration_in("model_final.pth"), 9);
}

TEST_F(PeriodicCheckpointerTest, KeepsTheNewestAndTheEnd) {
  trainer.add_hook<hooks::PeriodicCheckpointer>(*checkpointer, hooks::PeriodicCheckpointerOptions{.period = 2, .max_to_keep = 2});
  trainer.train(0, 10);
  EXPECT_EQ(files(), (Names{"model_0000007.pth", "model_0000009.pth", "model_final.pth"}));
}

TEST_F(PeriodicCheckpointerTest, KeepsTheNewestOverARestartAndLeavesStrangersAlone) {
  checkpointer->save("model_best");
  checkpointer->save("model_0000099");
  checkpointer->save("other_0000001");
  trainer.add_hook<hooks::PeriodicCheckpointer>(*checkpointer, hooks::PeriodicCheckpointerOptions{.period = 2, .max_to_keep = 2});
  trainer.train(0, 4);
  trainer.train(4, 7);
  EXPECT_EQ(files(), (Names{"model_0000003.pth", "model_0000005.pth", "model_0000099.pth", "model_best.pth", "model_final.pth",
                            "other_0000001.pth"}));
}

TEST_F(PeriodicCheckpointerTest, AStoppedRunIsSavedWhereItStopped) {
  trainer.add_hook<hooks::PeriodicCheckpointer>(*checkpointer, hooks::PeriodicCheckpointerOptions{.period = 4});
  trainer.step = [&] {
    if (trainer.iter() == 5) trainer.request_stop("test");
  };
  trainer.train(0, 10);
  EXPECT_EQ(files(), (Names{"model_0000003.pth", "model_0000005.pth"}));
  EXPECT_EQ(last(), "model_0000005.pth");
  const Value saved = load_checkpoint_file(folder / "model_0000005.pth");
  EXPECT_EQ(saved.as_dict().at("iteration").as_int(), 5);
  EXPECT_EQ(saved.as_dict().at("trainer").as_dict().at("iteration").as_int(), 5);
}

TEST_F(PeriodicCheckpointerTest, AStopRightBehindASaveSavesNothingMore) {
  trainer.add_hook<hooks::PeriodicCheckpointer>(*checkpointer, hooks::PeriodicCheckpointerOptions{.period = 3});
  trainer.step = [&] {
    if (trainer.iter() == 2) trainer.request_stop("test");
  };
  trainer.train(0, 10);
  EXPECT_EQ(files(), Names{"model_0000002.pth"});
}

TEST_F(PeriodicCheckpointerTest, AFailureSavesNothing) {
  trainer.add_hook<hooks::PeriodicCheckpointer>(*checkpointer, hooks::PeriodicCheckpointerOptions{.period = 3});
  trainer.step = [&] {
    if (trainer.iter() == 1) throw FormatError("boom");
  };
  EXPECT_THROW(trainer.train(0, 10), FormatError);
  EXPECT_TRUE(files().empty());
}

TEST_F(PeriodicCheckpointerTest, NamesBeginWithThePrefix) {
  trainer.add_hook<hooks::PeriodicCheckpointer>(*checkpointer,
                                                hooks::PeriodicCheckpointerOptions{.period = 2, .file_prefix = "net"});
  trainer.train(0, 2);
  EXPECT_EQ(files(), (Names{"net_0000001.pth", "net_final.pth"}));
}

TEST_F(PeriodicCheckpointerTest, OptionsOutOfRangeAreNamed) {
  EXPECT_THROW(validate(hooks::PeriodicCheckpointerOptions{.period = 0}), ConfigError);
  EXPECT_THROW(validate(hooks::PeriodicCheckpointerOptions{.max_to_keep = 0}), ConfigError);
  EXPECT_THROW(hooks::PeriodicCheckpointer(*checkpointer, {.file_prefix = ""}), ConfigError);
}

}  // namespace
}  // namespace treadle

#include <tests/hooks/idle_trainer.hpp>
#include <tests/support/forwarding_file_system.hpp>
#include <treadle/base/errors.hpp>
#include <treadle/base/log.hpp>
#include <treadle/checkpoint/checkpointer.hpp>
#include <treadle/checkpoint/file.hpp>
#include <treadle/hooks.hpp>

#include <gtest/gtest.h>
#include <torch/nn/modules/linear.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <chrono>
#include <filesystem>
#include <thread>
#include <utility>

namespace treadle {
namespace {

namespace fs = std::filesystem;
using Names = std::vector<std::string>;

struct FilesThatFail final : ForwardingFileSystem {
  bool failing = false, undeletable = false;
  void remove(const fs::path& path) override {
    if (undeletable) throw IoError("remove", path, EACCES);
    ForwardingFileSystem::remove(path);
  }
  std::unique_ptr<WritableFile> create(const fs::path& path) override {
    if (failing) throw IoError("create", path, ENOSPC);
    return ForwardingFileSystem::create(path);
  }
};

/// Takes a while for each file, so that who does not wait is gone before.
struct SlowFiles final : ForwardingFileSystem {
  std::unique_ptr<WritableFile> create(const fs::path& path) override {
    const auto end = std::chrono::steady_clock::now() + std::chrono::milliseconds(50);
    while (std::chrono::steady_clock::now() < end) std::this_thread::yield();
    return ForwardingFileSystem::create(path);
  }
};

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

/// Makes no file of iteration 3, as if the process had been killed in front of it.
struct FilesUntilIteration3 final : ForwardingFileSystem {
  std::unique_ptr<WritableFile> create(const fs::path& path) override {
    if (path.filename().string().find("0000003") != std::string::npos) throw IoError("create", path, EIO);
    return ForwardingFileSystem::create(path);
  }
};

TEST_F(PeriodicCheckpointerTest, ARunThatEndsBetweenItsLastTwoSavesHasTheFinalOne) {
  checkpointer = std::make_unique<Checkpointer>(*model, folder,
                                                CheckpointerOptions{.file_system = std::make_shared<FilesUntilIteration3>()});
  checkpointer->add_checkpointable("trainer", trainer);
  trainer.add_hook<hooks::PeriodicCheckpointer>(*checkpointer, hooks::PeriodicCheckpointerOptions{.period = 2});
  EXPECT_THROW(trainer.train(0, 4), IoError);
  EXPECT_EQ(files(), (Names{"model_0000001.pth", "model_final.pth"}));
  EXPECT_EQ(last(), "model_final.pth");
  EXPECT_EQ(iteration_in("model_final.pth"), 3);
}

/// Has no room for the final one.
struct NoFinalFile final : ForwardingFileSystem {
  std::unique_ptr<WritableFile> create(const fs::path& path) override {
    if (path.filename().string().find("final") != std::string::npos) throw IoError("create", path, ENOSPC);
    return ForwardingFileSystem::create(path);
  }
};

TEST_F(PeriodicCheckpointerTest, AFinalOneThatFailedLeavesTheNewestToResumeFrom) {
  checkpointer = std::make_unique<Checkpointer>(
      *model, folder, CheckpointerOptions{.file_system = std::make_shared<NoFinalFile>(), .ignore_save_errors = true});
  const LogCapture quiet([](LogLevel, std::string_view) {});
  trainer.add_hook<hooks::PeriodicCheckpointer>(*checkpointer, hooks::PeriodicCheckpointerOptions{.period = 2});
  trainer.train(0, 4);
  EXPECT_EQ(files(), (Names{"model_0000001.pth", "model_0000003.pth"}));
  EXPECT_EQ(last(), "model_0000003.pth");
}

TEST_F(PeriodicCheckpointerTest, ALastIterationThatIsDueEndsWithTheFinalOne) {
  trainer.add_hook<hooks::PeriodicCheckpointer>(*checkpointer, hooks::PeriodicCheckpointerOptions{.period = 2, .async = true});
  trainer.train(0, 4);
  EXPECT_EQ(files(), (Names{"model_0000001.pth", "model_0000003.pth", "model_final.pth"}));
  EXPECT_EQ(last(), "model_final.pth");
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

TEST_F(PeriodicCheckpointerTest, TheOldestIsTheOneOfTheSmallestNumberHoweverManyDigitsItHas) {
  for (const char* name : {"model_9999999", "model_10000000"}) checkpointer->save(name);
  trainer.add_hook<hooks::PeriodicCheckpointer>(*checkpointer, hooks::PeriodicCheckpointerOptions{.period = 2, .max_to_keep = 2});
  trainer.train(10'000'002, 10'000'004);
  EXPECT_EQ(files(), (Names{"model_10000000.pth", "model_10000003.pth", "model_final.pth"}));
}

TEST_F(PeriodicCheckpointerTest, AnOldOneThatCannotBeDeletedStaysAndTheRunGoesOn) {
  const auto files_that_fail = std::make_shared<FilesThatFail>();
  files_that_fail->undeletable = true;
  checkpointer = std::make_unique<Checkpointer>(*model, folder, CheckpointerOptions{.file_system = files_that_fail});
  std::string warnings;
  const LogCapture capture([&](LogLevel level, std::string_view line) {
    if (level == LogLevel::warning) warnings += line;
  });
  trainer.add_hook<hooks::PeriodicCheckpointer>(*checkpointer, hooks::PeriodicCheckpointerOptions{.period = 2, .max_to_keep = 1});
  trainer.train(0, 4);
  EXPECT_EQ(files(), (Names{"model_0000001.pth", "model_0000003.pth", "model_final.pth"}));
  EXPECT_NE(warnings.find("an old checkpoint stays: "), std::string::npos) << warnings;
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
  const auto saves = [](const std::string& line) { return line.find("Saving checkpoint") != std::string::npos; };
  EXPECT_EQ(std::ranges::count_if(trainer.logs, saves), 1);
}

/// Makes no file until it is let go.
struct GatedFiles final : ForwardingFileSystem {
  std::unique_ptr<WritableFile> create(const fs::path& path) override {
    open_.wait(false);
    return ForwardingFileSystem::create(path);
  }
  void let_go() {
    open_ = true;
    open_.notify_all();
  }

 private:
  std::atomic<bool> open_ = false;
};

TEST_F(PeriodicCheckpointerTest, AStopWhoseSaveWasSkippedIsSavedAllTheSame) {
  const auto gate = std::make_shared<GatedFiles>();
  checkpointer = std::make_unique<Checkpointer>(
      *model, folder, CheckpointerOptions{.file_system = gate, .when_busy = CheckpointerOptions::Busy::skip});
  const LogCapture capture([&](LogLevel, std::string_view line) {
    if (line.find("is skipped") != std::string_view::npos) gate->let_go();
  });
  trainer.add_hook<hooks::PeriodicCheckpointer>(*checkpointer, hooks::PeriodicCheckpointerOptions{.period = 1, .async = true});
  trainer.step = [&] {
    if (trainer.iter() == 1) trainer.request_stop("test");
  };
  trainer.train(0, 10);
  EXPECT_EQ(files(), (Names{"model_0000000.pth", "model_0000001.pth"}));
  EXPECT_EQ(last(), "model_0000001.pth");
  EXPECT_EQ(iteration_in("model_0000001.pth"), 1);
}

/// Has no room for the first file of iteration 1, and for the next one it has.
struct FirstTryFails final : ForwardingFileSystem {
  bool failed = false;
  std::unique_ptr<WritableFile> create(const fs::path& path) override {
    if (path.filename().string().find("0000001") != std::string::npos && !std::exchange(failed, true))
      throw IoError("create", path, ENOSPC);
    return ForwardingFileSystem::create(path);
  }
};

TEST_F(PeriodicCheckpointerTest, AStopWhoseSaveFailedIsSavedOnceMore) {
  for (const bool async : {false, true}) {
    SetUp();
    checkpointer = std::make_unique<Checkpointer>(
        *model, folder, CheckpointerOptions{.file_system = std::make_shared<FirstTryFails>(), .ignore_save_errors = true});
    IdleTrainer one;
    one.add_hook<hooks::PeriodicCheckpointer>(*checkpointer, hooks::PeriodicCheckpointerOptions{.period = 1, .async = async});
    one.step = [&] {
      if (one.iter() == 1) one.request_stop("test");
    };
    one.train(0, 10);
    EXPECT_EQ(files(), (Names{"model_0000000.pth", "model_0000001.pth"})) << async;
    EXPECT_EQ(last(), "model_0000001.pth") << async;
  }
}

TEST_F(PeriodicCheckpointerTest, AStopWhoseSaveFailedIsSavedBeforeTheErrorIsThrown) {
  checkpointer =
      std::make_unique<Checkpointer>(*model, folder, CheckpointerOptions{.file_system = std::make_shared<FirstTryFails>()});
  trainer.add_hook<hooks::PeriodicCheckpointer>(*checkpointer, hooks::PeriodicCheckpointerOptions{.period = 2, .async = true});
  trainer.step = [&] {
    if (trainer.iter() == 1) trainer.request_stop("test");
  };
  EXPECT_THROW(trainer.train(0, 10), IoError);
  EXPECT_EQ(files(), Names{"model_0000001.pth"});
  EXPECT_EQ(last(), "model_0000001.pth");
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

TEST_F(PeriodicCheckpointerTest, AFailedSaveDoesNotPushOutAGoodOne) {
  const auto files_that_fail = std::make_shared<FilesThatFail>();
  checkpointer = std::make_unique<Checkpointer>(*model, folder,
                                                CheckpointerOptions{.file_system = files_that_fail, .ignore_save_errors = true});
  const LogCapture quiet([](LogLevel, std::string_view) {});
  trainer.add_hook<hooks::PeriodicCheckpointer>(*checkpointer, hooks::PeriodicCheckpointerOptions{.period = 2, .max_to_keep = 2});
  trainer.step = [&] { files_that_fail->failing = trainer.iter() >= 4; };
  trainer.train(0, 12);
  EXPECT_EQ(files(), (Names{"model_0000001.pth", "model_0000003.pth"}));
  EXPECT_EQ(last(), "model_0000003.pth");
}

TEST_F(PeriodicCheckpointerTest, APinnedCheckpointStaysAndDoesNotCount) {
  trainer.add_hook<hooks::PeriodicCheckpointer>(*checkpointer, hooks::PeriodicCheckpointerOptions{.period = 2, .max_to_keep = 2});
  trainer.step = [&] {
    if (trainer.iter() == 2) checkpointer->pin("model_0000001");
  };
  trainer.train(0, 8);
  EXPECT_EQ(files(), (Names{"model_0000001.pth", "model_0000005.pth", "model_0000007.pth", "model_final.pth"}));
  trainer.train(8, 12);
  EXPECT_EQ(files(), (Names{"model_0000001.pth", "model_0000009.pth", "model_0000011.pth", "model_final.pth"}));
}

TEST_F(PeriodicCheckpointerTest, AMiddleOneThatIsPinnedDoesNotCountEither) {
  trainer.add_hook<hooks::PeriodicCheckpointer>(*checkpointer, hooks::PeriodicCheckpointerOptions{.period = 2, .max_to_keep = 2});
  trainer.step = [&] {
    if (trainer.iter() == 4) checkpointer->pin("model_0000003");
  };
  trainer.train(0, 6);
  EXPECT_TRUE(checkpointer->is_pinned("model_0000003"));
  EXPECT_FALSE(checkpointer->is_pinned("model_0000001"));
  EXPECT_EQ(files(), (Names{"model_0000001.pth", "model_0000003.pth", "model_0000005.pth", "model_final.pth"}));
}

TEST_F(PeriodicCheckpointerTest, AsyncSavesTheSameFiles) {
  trainer.add_hook<hooks::PeriodicCheckpointer>(*checkpointer,
                                                hooks::PeriodicCheckpointerOptions{.period = 2, .max_to_keep = 2, .async = true});
  trainer.train(0, 10);
  EXPECT_EQ(files(), (Names{"model_0000007.pth", "model_0000009.pth", "model_final.pth"}));
  EXPECT_EQ(last(), "model_final.pth");
  EXPECT_EQ(iteration_in("model_0000007.pth"), 7);
}

TEST_F(PeriodicCheckpointerTest, AnAsyncErrorSurfacesAtAStepNotAtTheNextSave) {
  const auto files_that_fail = std::make_shared<FilesThatFail>();
  files_that_fail->failing = true;
  checkpointer = std::make_unique<Checkpointer>(*model, folder, CheckpointerOptions{.file_system = files_that_fail});
  const LogCapture quiet([](LogLevel, std::string_view) {});
  constexpr std::int64_t kPeriod = 100'000'000;
  trainer.add_hook<hooks::PeriodicCheckpointer>(*checkpointer,
                                                hooks::PeriodicCheckpointerOptions{.period = kPeriod, .async = true});
  EXPECT_THROW(trainer.train(kPeriod - 1, 2 * kPeriod), IoError);
  EXPECT_LT(trainer.iter(), 2 * kPeriod - 1);
}

TEST_F(PeriodicCheckpointerTest, AStopAndAnExceptionWaitForTheWriter) {
  for (bool stop : {true, false}) {
    SetUp();
    const auto slow = std::make_shared<SlowFiles>();
    checkpointer = std::make_unique<Checkpointer>(*model, folder, CheckpointerOptions{.file_system = slow});
    const LogCapture quiet([](LogLevel, std::string_view) {});
    IdleTrainer short_lived;
    short_lived.add_hook<hooks::PeriodicCheckpointer>(*checkpointer,
                                                      hooks::PeriodicCheckpointerOptions{.period = 3, .async = true});
    short_lived.step = [&] {
      if (short_lived.iter() != (stop ? 2 : 3)) return;
      if (stop) return short_lived.request_stop("test");
      throw FormatError("boom");
    };
    if (stop) {
      short_lived.train(0, 10);
    } else {
      EXPECT_THROW(short_lived.train(0, 10), FormatError);
    }
    EXPECT_EQ(files(), Names{"model_0000002.pth"});
    EXPECT_EQ(last(), "model_0000002.pth");
  }
}

TEST_F(PeriodicCheckpointerTest, OptionsOutOfRangeAreNamed) {
  try {
    validate(hooks::PeriodicCheckpointerOptions{.period = 0});
    FAIL();
  } catch (const ConfigError& error) {
    EXPECT_EQ(error.key(), "PeriodicCheckpointerOptions.period");
  }
  EXPECT_THROW(validate(hooks::PeriodicCheckpointerOptions{.max_to_keep = 0}), ConfigError);
  EXPECT_THROW(hooks::PeriodicCheckpointer(*checkpointer, {.file_prefix = ""}), ConfigError);
}

}  // namespace
}  // namespace treadle

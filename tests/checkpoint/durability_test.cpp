#include <tests/support/forwarding_file_system.hpp>
#include <tests/support/temporary_folder.hpp>
#include <treadle/base/log.hpp>
#include <treadle/checkpoint/checkpointer.hpp>
#include <treadle/checkpoint/file.hpp>

#include <gtest/gtest.h>

#include <algorithm>
#include <cerrno>

#include "tests/checkpoint/fault_file_system.hpp"
#include "tests/checkpoint/small_model.hpp"

namespace treadle {
namespace {

/// A run that saves its model twice on a disk that may fail; the model holds the number of the iteration.
struct DiskRun {
  std::shared_ptr<FaultFileSystem> files = std::make_shared<FaultFileSystem>();
  SmallModel model;
  Counter counter;
  Checkpointer checkpointer{model, "out", {.file_system = files}};

  DiskRun() { checkpointer.add_checkpointable("counter", counter); }

  void save(int iteration) { save(iteration, "model_" + std::to_string(iteration)); }
  void save(int iteration, const std::string& name) {
    model.fill(iteration);
    counter.count = iteration;
    checkpointer.save(name, {{"iteration", iteration}});
  }

  /// The file that last_checkpoint names can be read, for programs that look no further.
  void expect_last_is_good() const {
    const std::string name = read_small_file(*files, "out/last_checkpoint");
    EXPECT_NO_THROW(load_checkpoint_file(std::filesystem::path("out") / name, {.file_system = files})) << name;
  }

  /// What a process that starts now resumes from.
  int resumed() const {
    SmallModel fresh(-7);
    Counter fresh_counter;
    Checkpointer reader(fresh, "out", {.file_system = files});
    reader.add_checkpointable("counter", fresh_counter);
    Dict rest = reader.resume_or_load("");
    if (!rest.contains("iteration")) return -1;
    EXPECT_EQ(fresh.value(), static_cast<double>(rest.at("iteration").as_int()));
    EXPECT_EQ(fresh_counter.count, rest.at("iteration").as_int());
    return static_cast<int>(rest.at("iteration").as_int());
  }
};

struct Quiet {
  std::vector<std::string> lines;
  LogCapture capture{[this](LogLevel, std::string_view line) { lines.emplace_back(line); }};
};

int calls_of_second_save() {
  DiskRun run;
  run.save(1);
  run.files->heal();
  run.save(2);
  return run.files->calls();
}

TEST(Durability, PowerLossAfterEveryCallLeavesAGoodCheckpoint) {
  Quiet quiet;
  int calls = calls_of_second_save();
  ASSERT_GT(calls, 10);
  for (int last = 0; last < calls; ++last) {
    for (auto torn : {FaultFileSystem::Torn::lost, FaultFileSystem::Torn::half, FaultFileSystem::Torn::whole}) {
      for (bool names_stay : {false, true}) {
        DiskRun run;
        run.save(1);
        run.files->lose_power_after(last);
        bool reported = true;
        try {
          run.save(2);
        } catch (const FaultFileSystem::PowerLoss&) {
          reported = false;
        }
        run.files->lose_power(torn, names_stay);
        run.expect_last_is_good();
        int resumed = run.resumed();
        EXPECT_TRUE(resumed == 1 || resumed == 2) << "after call " << last;
        if (reported) {
          EXPECT_EQ(resumed, 2) << "after call " << last;
        }
      }
    }
  }
}

// As `model_final` is written when a run is trained further: there is no other checkpoint to fall back to.
TEST(Durability, PowerLossWhileReplacingTheOnlyCheckpointLeavesTheOldOrTheNew) {
  Quiet quiet;
  int calls = calls_of_second_save();
  for (int last = 0; last < calls; ++last) {
    for (auto torn : {FaultFileSystem::Torn::lost, FaultFileSystem::Torn::half, FaultFileSystem::Torn::whole}) {
      for (bool names_stay : {false, true}) {
        DiskRun run;
        run.save(1, "model_final");
        run.files->lose_power_after(last);
        EXPECT_THROW(run.save(2, "model_final"), FaultFileSystem::PowerLoss);
        run.files->lose_power(torn, names_stay);
        int resumed = run.resumed();
        EXPECT_TRUE(resumed == 1 || resumed == 2) << "after call " << last;
      }
    }
  }
}

TEST(Durability, WhatSaveReportedSurvivesAnyPowerLoss) {
  Quiet quiet;
  DiskRun run;
  run.save(1);
  run.save(2);
  run.files->lose_power(FaultFileSystem::Torn::lost, false);
  EXPECT_EQ(run.resumed(), 2);
}

TEST(Durability, AFolderThatWasMadeForItSurvivesPowerLossWithTheFirstSave) {
  Quiet quiet;
  for (const char* folder : {"out", "out/", "runs/first/out", "/runs/out"}) {
    for (const bool async : {false, true}) {
      const auto files = std::make_shared<FaultFileSystem>();
      SmallModel model(1), fresh(-7);
      Checkpointer checkpointer(model, folder, {.file_system = files});
      if (async) {
        checkpointer.save_async("m");
      } else {
        checkpointer.save("m");
      }
      checkpointer.wait();
      files->lose_power(FaultFileSystem::Torn::lost, false);
      Checkpointer(fresh, folder, {.file_system = files}).resume_or_load("");
      EXPECT_EQ(fresh.value(), 1) << folder;
    }
  }
}

/// Keeps account of what becomes durable, and refuses to sync one folder.
struct FoldersAbove final : ForwardingFileSystem {
  std::vector<std::string> done;
  std::filesystem::path refused;
  int error = 0;
  void sync_folder(const std::filesystem::path& folder) override {
    if (error != 0 && folder == refused) throw IoError("make durable", folder, error);
    ForwardingFileSystem::sync_folder(folder);
    done.push_back("sync " + folder.string());
  }
  void rename(const std::filesystem::path& from, const std::filesystem::path& to) override {
    ForwardingFileSystem::rename(from, to);
    done.push_back("rename " + to.filename().string());
  }
};

TEST(Durability, FoldersAboveAreSyncedByTheFirstSaveAloneAndBeforeItIsTagged) {
  Quiet quiet;
  const TemporaryFolder root;
  const auto files = std::make_shared<FoldersAbove>();
  SmallModel model(1);
  Checkpointer checkpointer(model, root / "runs/out", {.file_system = files});
  checkpointer.save("one");
  const std::string above = "sync " + root / "runs", top = "sync " + root.path().string(), tag = "rename last_checkpoint";
  const auto place = [&](const std::string& call) { return std::ranges::find(files->done, call) - files->done.begin(); };
  EXPECT_LT(place(above), place(tag));
  EXPECT_LT(place(top), place(tag));
  files->done.clear();
  checkpointer.save("two");
  const std::string own = "sync " + root / "runs/out";
  EXPECT_EQ(files->done, (std::vector<std::string>{"rename two.pth", own, tag, own}));
}

TEST(Durability, AFolderAboveThatMayNotBeOpenedIsPassedOverAndAFailingOneIsTriedAgain) {
  Quiet quiet;
  const TemporaryFolder root;
  const auto files = std::make_shared<FoldersAbove>();
  files->refused = root.path();
  SmallModel model(1);
  for (const int error : {EACCES, EINVAL, ENOENT, EROFS}) {
    files->error = error;
    EXPECT_NO_THROW(Checkpointer(model, root / "out", {.file_system = files}).save("m")) << error;
  }
  Checkpointer checkpointer(model, root / "out", {.file_system = files});
  files->error = EIO;
  EXPECT_THROW(checkpointer.save("n"), IoError);
  EXPECT_THROW(checkpointer.save("n"), IoError);
  EXPECT_FALSE(files->is_file(root / "out/n.pth"));
  files->error = 0;
  EXPECT_NO_THROW(checkpointer.save("n"));
}

TEST(Durability, AnErrorAtEveryCallLeavesTheCheckpointBefore) {
  Quiet quiet;
  int calls = calls_of_second_save();
  for (int number = 0; number < calls; ++number) {
    for (int error : {EIO, ENOSPC, EROFS}) {
      DiskRun run;
      run.save(1);
      run.files->fail_at(number, error);
      EXPECT_THROW(run.save(2), IoError) << "call " << number;
      run.files->heal();
      // A full disk has no room for what is of no use.
      for (const char* name : {"out/model_2.pth", "out/last_checkpoint"})
        EXPECT_FALSE(run.files->is_file(temporary_path(name))) << "call " << number;
      int resumed = run.resumed();
      EXPECT_TRUE(resumed == 1 || resumed == 2) << "call " << number;
      run.save(3);
      EXPECT_EQ(run.resumed(), 3) << "call " << number;
    }
  }
}

TEST(Durability, ErrorsCanBeLoggedInstead) {
  Quiet quiet;
  auto files = std::make_shared<FaultFileSystem>();
  SmallModel model(1);
  Checkpointer checkpointer(model, "out", {.file_system = files, .ignore_save_errors = true});
  files->fail_at(3, ENOSPC);
  EXPECT_NO_THROW(checkpointer.save("model"));
  EXPECT_NE(quiet.lines.back().find("training goes on"), std::string::npos);
}

TEST(Durability, AnErrorDuringResumeNeverLoadsHalf) {
  Quiet quiet;
  DiskRun run;
  run.save(1);
  run.save(2);
  for (int number = 0; number < 200; ++number) {
    SmallModel fresh(-7);
    Counter counter;
    counter.count = -7;
    Checkpointer reader(fresh, "out", {.file_system = run.files});
    reader.add_checkpointable("counter", counter);
    run.files->fail_at(number, EIO);
    try {
      reader.resume_or_load("");
    } catch (const Error&) {
    }
    EXPECT_EQ(fresh.value(), static_cast<double>(counter.count)) << "call " << number;
    bool reached = run.files->calls() > number;
    run.files->heal();
    // A disk that fails says nothing about the file.
    for (const char* name : {"out/model_1.pth", "out/model_2.pth"}) EXPECT_TRUE(run.files->is_file(name)) << "call " << number;
    if (!reached) return;
  }
  FAIL() << "a resume takes more than 200 calls";
}

TEST(Durability, ADamagedCheckpointIsSetAsideAndTheNewestGoodOneTaken) {
  DiskRun run;
  {
    Quiet quiet;
    for (int i = 1; i <= 3; ++i) run.save(i);
  }
  auto path = run.checkpointer.get_checkpoint_file();
  float weight = 3;
  run.files->flip(path, run.files->content(path).find(std::string(reinterpret_cast<const char*>(&weight), sizeof weight)));
  Quiet quiet;
  EXPECT_EQ(run.resumed(), 2);
  std::string all;
  for (const auto& line : quiet.lines) all += line + "\n";
  EXPECT_NE(all.find("Damaged checkpoint"), std::string::npos);
  EXPECT_NE(all.find("out/model_2.pth"), std::string::npos);
  EXPECT_FALSE(run.files->is_file("out/model_3.pth"));
  EXPECT_TRUE(run.files->is_file("out/model_3.pth.damaged"));
  EXPECT_EQ(run.checkpointer.get_checkpoint_file(), "out/model_2.pth");
}

TEST(Durability, AMissingLastCheckpointFallsBackToo) {
  Quiet quiet;
  DiskRun run;
  run.save(1);
  run.save(2);
  run.checkpointer.tag_last_checkpoint("gone.pth");
  EXPECT_EQ(run.resumed(), 2);
  run.files->add("out/last_checkpoint", "");
  EXPECT_EQ(run.resumed(), 2);
}

TEST(Durability, TheNewestIsThatOfTheLatestIterationNotTheOneWrittenLast) {
  Quiet quiet;
  DiskRun run;
  for (int i : {2, 3, 1}) run.save(i);
  run.checkpointer.tag_last_checkpoint("gone.pth");
  EXPECT_EQ(run.resumed(), 3);
}

TEST(Durability, WhenAllAreDamagedResumeSaysSo) {
  Quiet quiet;
  DiskRun run;
  run.save(1);
  run.files->content("out/model_1.pth").resize(100);
  EXPECT_THROW(run.resumed(), FormatError);
}

TEST(Durability, LeftoversAreRemovedAtTheNextStart) {
  Quiet quiet;
  DiskRun run;
  run.save(1);
  run.files->add(temporary_path("out/model_2.pth"), "half");
  run.files->add("out/of_the_user.tmp", "mine");
  EXPECT_EQ(run.resumed(), 1);
  EXPECT_FALSE(run.files->is_file(temporary_path("out/model_2.pth")));
  EXPECT_TRUE(run.files->is_file("out/of_the_user.tmp"));
}

}  // namespace
}  // namespace treadle

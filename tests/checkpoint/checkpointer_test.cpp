#include <tests/support/forwarding_file_system.hpp>
#include <treadle/base/log.hpp>
#include <treadle/base/module_state.hpp>
#include <treadle/checkpoint/checkpointer.hpp>
#include <treadle/checkpoint/file.hpp>
#include <treadle/checkpoint/file_system.hpp>

#include <ATen/ops/arange.h>
#include <ATen/ops/complex.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/full.h>
#include <ATen/ops/imag.h>
#include <ATen/ops/zeros.h>
#include <gtest/gtest.h>

#include <condition_variable>
#include <mutex>

#include "tests/checkpoint/small_model.hpp"
#include "tests/support/temporary_folder.hpp"

namespace treadle {
namespace {

struct Quiet {
  std::mutex mutex;
  std::vector<std::string> lines;
  LogCapture capture{[this](LogLevel, std::string_view line) {
    std::lock_guard lock(mutex);
    lines.emplace_back(line);
  }};
  bool said(const std::string& part) {
    std::lock_guard lock(mutex);
    for (const auto& line : lines) {
      if (line.find(part) != std::string::npos) return true;
    }
    return false;
  }
};

TEST(Checkpointer, TheUpgradeSeesTheNamesOfAModelThatWasWrapped) {
  Quiet quiet;
  TemporaryFolder folder;
  Dict wrapped;
  for (const auto& entry : module_state_dict(SmallModel(3))) wrapped.set("module." + entry.key.string(), entry.value);
  save_checkpoint_file(folder / "wrapped.pth", Dict{{"model", wrapped}});
  SmallModel model(2);
  std::vector<std::string> seen;
  const auto upgrade = [&](Dict state) {
    for (const auto& entry : state) seen.push_back(entry.key.string());
    return state;
  };
  Checkpointer(model, folder.path(), {.upgrade = upgrade}).load(folder / "wrapped.pth");
  EXPECT_EQ(seen, (std::vector<std::string>{"bias", "mean", "weight"}));
  EXPECT_EQ(model.value(), 3);
}

TEST(Checkpointer, SavesInTheLayoutOfFvcore) {
  Quiet quiet;
  TemporaryFolder folder;
  SmallModel model(2);
  Counter counter;
  counter.count = 5;
  Checkpointer checkpointer(model, folder.path());
  checkpointer.add_checkpointable("trainer", counter);
  EXPECT_FALSE(checkpointer.has_checkpoint());
  EXPECT_TRUE(checkpointer.get_checkpoint_file().empty());
  checkpointer.save("model_0000009", {{"iteration", 9}});
  Value saved = load_checkpoint_file(folder / "model_0000009.pth");
  std::vector<std::string> keys;
  for (const auto& entry : saved.as_dict()) keys.push_back(entry.key.string());
  EXPECT_EQ(keys, (std::vector<std::string>{"model", "trainer", "iteration"}));
  EXPECT_EQ(saved.as_dict().at("trainer").as_dict().at("count").as_int(), 5);
  EXPECT_EQ(saved.as_dict().at("model").as_dict().size(), 3u);
  EXPECT_EQ(read_small_file(*local_file_system(), folder / "last_checkpoint"), "model_0000009.pth");
  EXPECT_TRUE(checkpointer.has_checkpoint());
  EXPECT_EQ(checkpointer.get_checkpoint_file(), folder / "model_0000009.pth");
}

TEST(Checkpointer, ACopyAsideIsNotTheOneToResumeFrom) {
  Quiet quiet;
  TemporaryFolder folder;
  SmallModel model(2);
  Counter counter;
  Checkpointer checkpointer(model, folder.path());
  checkpointer.add_checkpointable("trainer", counter);
  checkpointer.save_aside("best", {{"iteration", 3}});
  EXPECT_FALSE(checkpointer.has_checkpoint());
  EXPECT_TRUE(load_checkpoint_file(folder / "best.pth").as_dict().contains("trainer"));
  checkpointer.save("model_0000009");
  checkpointer.save_aside("weights", {{"score", 1.5}}, Checkpointer::Parts::model);
  EXPECT_EQ(checkpointer.get_checkpoint_file(), folder / "model_0000009.pth");
  const Value weights = load_checkpoint_file(folder / "weights.pth");
  EXPECT_EQ(weights.as_dict().size(), 2u);
  EXPECT_EQ(weights.as_dict().at("model").as_dict().size(), 3u);
  EXPECT_EQ(weights.as_dict().at("score").as_double(), 1.5);
}

TEST(Checkpointer, CreatesItsFolderAndListsItsFiles) {
  Quiet quiet;
  TemporaryFolder folder;
  SmallModel model;
  Checkpointer checkpointer(model, folder / "a/b");
  checkpointer.save("two");
  checkpointer.save("one");
  EXPECT_EQ(checkpointer.get_all_checkpoint_files(),
            (std::vector<std::filesystem::path>{folder / "a/b/one.pth", folder / "a/b/two.pth"}));
}

TEST(Checkpointer, AVanishedFolderIsMadeAgain) {
  Quiet quiet;
  TemporaryFolder folder;
  SmallModel model(3), fresh;
  Checkpointer checkpointer(model, folder / "run");
  checkpointer.save("one");
  std::filesystem::remove_all(folder / "run");
  EXPECT_FALSE(checkpointer.has_checkpoint());
  checkpointer.save_async("two");
  checkpointer.wait();
  Checkpointer(fresh, folder / "run").resume_or_load("");
  EXPECT_EQ(fresh.value(), 3);
}

TEST(Checkpointer, ForgetKeepsWhatMustNotGo) {
  Quiet quiet;
  TemporaryFolder folder;
  SmallModel model;
  Checkpointer checkpointer(model, folder.path());
  for (const char* name : {"old", "pinned", "tagged", "newest"}) checkpointer.save(name);
  checkpointer.pin("pinned");
  checkpointer.tag_last_checkpoint("tagged.pth");
  Checkpointer later(model, folder.path());  // of a later run, which saved nothing yet
  for (const char* name : {"pinned", "tagged"}) EXPECT_FALSE(checkpointer.forget(name) || later.forget(name)) << name;
  EXPECT_FALSE(checkpointer.forget("newest"));
  EXPECT_TRUE(checkpointer.forget("old"));
  EXPECT_FALSE(checkpointer.forget("old"));
  EXPECT_EQ(checkpointer.get_all_checkpoint_files().size(), 3u);
  EXPECT_THROW(checkpointer.forget("../x"), Error);
}

TEST(Checkpointer, LoadsModelAndPartsAndReturnsTheRest) {
  Quiet quiet;
  TemporaryFolder folder;
  SmallModel model(2);
  Counter counter, other;
  counter.count = 5;
  Checkpointer checkpointer(model, folder.path());
  checkpointer.add_checkpointable("counter", counter);
  checkpointer.add_checkpointable("other", other);
  checkpointer.save("m", {{"iteration", 9}});
  model.fill(0);
  counter.count = 0;
  Dict rest = checkpointer.load(folder / "m.pth", std::vector<std::string>{"counter"});
  EXPECT_EQ(model.value(), 2);
  EXPECT_EQ(counter.count, 5);
  EXPECT_EQ(other.loads, 0);
  EXPECT_EQ(rest.size(), 2u);
  EXPECT_EQ(rest.at("iteration").as_int(), 9);
  EXPECT_TRUE(rest.contains("other"));
}

TEST(Checkpointer, ResumeLoadsAllAndOtherwiseTheModelAlone) {
  Quiet quiet;
  TemporaryFolder folder;
  SmallModel model(2);
  Counter counter;
  counter.count = 5;
  Checkpointer checkpointer(model, folder.path());
  checkpointer.add_checkpointable("counter", counter);
  checkpointer.save("m");
  counter.count = 0;
  Dict rest = checkpointer.resume_or_load(folder / "m.pth", false);
  EXPECT_EQ(counter.count, 0);
  EXPECT_TRUE(rest.contains("counter"));
  checkpointer.resume_or_load("", true);
  EXPECT_EQ(counter.count, 5);
}

TEST(Checkpointer, ARefusedPartLeavesEverythingAsItWas) {
  Quiet quiet;
  TemporaryFolder folder;
  SmallModel model(2);
  Counter first, second;
  first.count = 5;
  second.count = -1;
  Checkpointer checkpointer(model, folder.path());
  checkpointer.add_checkpointable("first", first);
  checkpointer.add_checkpointable("second", second);
  checkpointer.save("m");
  model.fill(3);
  first.count = 6;
  try {
    checkpointer.load(folder / "m.pth");
    FAIL();
  } catch (const FormatError& error) {
    EXPECT_NE(std::string(error.what()).find("second"), std::string::npos);
    EXPECT_NE(std::string(error.what()).find("m.pth"), std::string::npos);
  }
  EXPECT_EQ(model.value(), 3);
  EXPECT_EQ(first.count, 6);
  EXPECT_EQ(first.loads + second.loads, 0);
}

TEST(Checkpointer, AStateThatDoesNotFitIsNoDamage) {
  Quiet quiet;
  TemporaryFolder folder;
  SmallModel model(2);
  Counter counter;
  counter.count = -1;
  Checkpointer checkpointer(model, folder.path());
  checkpointer.add_checkpointable("counter", counter);
  checkpointer.save("m");
  EXPECT_THROW(checkpointer.resume_or_load(""), FormatError);
  EXPECT_TRUE(std::filesystem::exists(folder / "m.pth"));
}

TEST(Checkpointer, NonPersistentNamesStayOut) {
  Quiet quiet;
  TemporaryFolder folder;
  SmallModel model(2);
  Checkpointer checkpointer(model, folder.path(), {.non_persistent = {"mean"}});
  checkpointer.save("m");
  EXPECT_FALSE(load_checkpoint_file(folder / "m.pth").as_dict().at("model").as_dict().contains("mean"));
  checkpointer.load(folder / "m.pth");
  EXPECT_FALSE(quiet.said("not found"));
}

TEST(Checkpointer, WithoutDiskOrFolderNothingIsSaved) {
  Quiet quiet;
  TemporaryFolder folder;
  SmallModel model;
  Checkpointer(model, folder.path(), {.save_to_disk = false}).save("m");
  Checkpointer nowhere(model, {});
  nowhere.save("m");
  EXPECT_TRUE(std::filesystem::is_empty(folder.path()));

  save_checkpoint_file(folder / "of_another.pth", Dict{});
  const std::filesystem::path before = std::filesystem::current_path();
  std::filesystem::current_path(folder.path());
  EXPECT_EQ(nowhere.get_all_checkpoint_files(), std::vector<std::filesystem::path>{});
  std::filesystem::current_path(before);
}

TEST(Checkpointer, RefusesNamesThatAreTakenOrNoNames) {
  TemporaryFolder folder;
  SmallModel model;
  Counter counter;
  Checkpointer checkpointer(model, folder.path());
  checkpointer.add_checkpointable("a", counter);
  EXPECT_TRUE(checkpointer.has_checkpointable("a"));
  EXPECT_FALSE(checkpointer.has_checkpointable("b"));
  EXPECT_THROW(checkpointer.add_checkpointable("a", counter), Error);
  EXPECT_THROW(checkpointer.add_checkpointable("model", counter), Error);
  EXPECT_THROW(checkpointer.save("../m"), Error);
  EXPECT_THROW(checkpointer.load("x", std::vector<std::string>{"b"}), Error);
}

TEST(Checkpointer, AsyncSaveHoldsTheStateOfItsCall) {
  Quiet quiet;
  TemporaryFolder folder;
  SmallModel model(1);
  Checkpointer checkpointer(model, folder.path());
  for (int i = 1; i <= 3; ++i) {
    model.fill(i);
    checkpointer.save_async("m" + std::to_string(i), {{"iteration", i}});
    model.fill(-1);
  }
  checkpointer.wait();
  for (int i = 1; i <= 3; ++i) {
    SmallModel fresh;
    Checkpointer(fresh, folder.path()).load(folder / ("m" + std::to_string(i) + ".pth"));
    EXPECT_EQ(fresh.value(), i);
  }
  EXPECT_EQ(checkpointer.get_checkpoint_file(), folder / "m3.pth");
}

TEST(Checkpointer, AsyncSavesTheBytesOfSave) {
  Quiet quiet;
  TemporaryFolder folder;
  SmallModel model(1);
  Checkpointer checkpointer(model, folder.path());
  const at::Tensor whole = at::arange(24, at::kFloat).view({4, 6});
  const at::Tensor complex = at::complex(whole, whole + 1);
  const Dict extras{{"views", List{whole, whole.t(), whole.slice(1, 2, 5)}},
                    {"conjugate", Tuple{complex, complex.conj()}},
                    {"negative", at::imag(complex.conj())},
                    {"zeros", at::zeros({0, 3})}};
  checkpointer.save("now", extras);
  for (const char* name : {"first", "second"}) {  // the second takes the memory of the first
    checkpointer.save_async(name, extras);
    checkpointer.wait();
    EXPECT_EQ(read_small_file(*local_file_system(), folder / (std::string(name) + ".pth")),
              read_small_file(*local_file_system(), folder / "now.pth"));
  }
}

TEST(Checkpointer, AsyncErrorsSurfaceOnceAtTheNextCall) {
  Quiet quiet;
  TemporaryFolder folder;
  local_file_system()->create(folder / "blocked")->close();
  SmallModel model;
  Checkpointer checkpointer(model, folder / "blocked/inside");
  checkpointer.save_async("m");
  EXPECT_THROW(checkpointer.wait(), IoError);
  EXPECT_NO_THROW(checkpointer.wait());
  {
    Checkpointer(model, folder / "blocked/inside").save_async("m");
  }
  EXPECT_TRUE(quiet.said("was not saved"));
  std::filesystem::remove(folder / "blocked");
  checkpointer.save_async("m");
  EXPECT_NO_THROW(checkpointer.wait());
}

/// Its tensor has nothing to be copied.
struct WithoutData final : Stateful {
  Dict state_dict() const override { return {{"tensor", at::empty({3}, at::kMeta)}}; }
  void check_state_dict(const Dict&) const override {}
  void load_state_dict(const Dict&) override {}
};

TEST(Checkpointer, AStateThatCannotBeCopiedIsAnAsyncSaveThatFailed) {
  Quiet quiet;
  TemporaryFolder folder;
  SmallModel model;
  WithoutData part;
  Checkpointer checkpointer(model, folder.path());
  checkpointer.save("good");
  checkpointer.add_checkpointable("part", part);
  EXPECT_NO_THROW(checkpointer.save_async("bad"));
  EXPECT_THROW(checkpointer.wait(), c10::Error);
  EXPECT_EQ(checkpointer.saved(), std::vector<std::string>{"good"});
  EXPECT_EQ(checkpointer.get_checkpoint_file(), folder / "good.pth");
}

/// A file system whose writes wait until they are let go.
class SlowFileSystem final : public ForwardingFileSystem {
 public:
  std::unique_ptr<WritableFile> create(const std::filesystem::path& path) override {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [this] { return open_; });
    return ForwardingFileSystem::create(path);
  }
  void let_go() {
    std::lock_guard lock(mutex_);
    open_ = true;
    changed_.notify_all();
  }

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  bool open_ = false;
};

TEST(Checkpointer, ABusyWriterCanMakeTheNextSaveSkip) {
  Quiet quiet;
  TemporaryFolder folder;
  SmallModel model(1);
  auto files = std::make_shared<SlowFileSystem>();
  Checkpointer checkpointer(model, folder.path(), {.file_system = files, .when_busy = CheckpointerOptions::Busy::skip});
  checkpointer.save_async("first");
  checkpointer.save_async("second");
  files->let_go();
  checkpointer.wait();
  EXPECT_TRUE(std::filesystem::exists(folder / "first.pth"));
  EXPECT_FALSE(std::filesystem::exists(folder / "second.pth"));
  EXPECT_TRUE(quiet.said("skipped"));
}

}  // namespace
}  // namespace treadle

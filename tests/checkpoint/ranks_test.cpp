// What a rank does with the answers of the others. FakeGroup plays them.
#include <treadle/base/errors.hpp>
#include <treadle/base/log.hpp>
#include <treadle/base/module_state.hpp>
#include <treadle/checkpoint/checkpointer.hpp>
#include <treadle/checkpoint/file.hpp>

#include <ATen/ops/full.h>
#include <gtest/gtest.h>

#include <cerrno>

#include "tests/checkpoint/fault_file_system.hpp"
#include "tests/checkpoint/small_model.hpp"
#include "tests/support/fake_group.hpp"

namespace treadle {
namespace {

struct OneRank {
  explicit OneRank(int rank) : group(std::make_shared<FakeGroup>(rank, 2)) {
    checkpointer.add_checkpointable("counter", counter);
  }

  LogCapture quiet{[](LogLevel, std::string_view) {}};
  std::shared_ptr<FakeGroup> group;
  std::shared_ptr<FaultFileSystem> files = std::make_shared<FaultFileSystem>();
  SmallModel model{2};
  Counter counter;
  Checkpointer checkpointer{model, "out", {.group = group, .file_system = files}};

  /// From now on the other rank says this where the ranks agree on success, behind `successes`, and has (not) the file.
  void other_says(const std::string& message, bool has_file = true, int successes = 0) {
    group->play_all_gather = [this, message, has_file, successes](const Value& own) mutable -> List {
      const bool asks_for_file = own.is(Value::Type::boolean);
      const Value other = asks_for_file ? Value(has_file) : Value(successes-- > 0 ? "" : message);
      return group->get_rank() == 0 ? List{own, other} : List{other, own};
    };
  }
  std::string error_of(const std::function<void()>& call) {
    try {
      call();
    } catch (const Error& error) {
      return error.what();
    }
    return "";
  }
  bool unchanged() const { return model.value() == 2 && counter.loads == 0; }
};

bool contains(const std::string& text, const std::string& part) { return text.find(part) != std::string::npos; }

TEST(Ranks, OnlyTheMainProcessWritesAndAllTakePart) {
  for (int rank : {0, 1}) {
    OneRank run(rank);
    run.checkpointer.save("m");
    EXPECT_EQ(run.files->calls() > 0, rank == 0);
    EXPECT_EQ(run.checkpointer.saved(), std::vector<std::string>{"m"});
    run.checkpointer.save_async("n");
    run.checkpointer.wait();
    EXPECT_EQ(run.files->is_file("out/n.pth"), rank == 0);
    EXPECT_EQ(run.checkpointer.forget("m"), rank == 0);
  }
}

TEST(Ranks, ASaveThatFailsOnTheMainProcessFailsOnAll) {
  OneRank main(0), other(1);
  main.files->fail_at(2, ENOSPC);
  EXPECT_TRUE(contains(main.error_of([&] { main.checkpointer.save("m"); }), "No space left"));
  EXPECT_TRUE(main.checkpointer.saved().empty());
  other.other_says("no space left on the disk");
  EXPECT_TRUE(contains(other.error_of([&] { other.checkpointer.save("m"); }), "rank 0: no space left on the disk"));
  EXPECT_TRUE(other.checkpointer.saved().empty());
}

TEST(Ranks, AnAsyncSaveThatFailsIsHeardOfByAll) {
  OneRank main(0), other(1);
  main.files->fail_at(2, ENOSPC);
  main.checkpointer.save_async("m");
  EXPECT_TRUE(contains(main.error_of([&] { main.checkpointer.wait(); }), "No space left"));
  other.checkpointer.save_async("m");
  other.other_says("no space left on the disk");
  EXPECT_TRUE(contains(other.error_of([&] { other.checkpointer.save_async("n"); }), "no space left on the disk"));
}

TEST(Ranks, PollThrowsOnTheMainProcessAndNeverTalksToTheOthers) {
  OneRank main(0);
  main.group->play_all_gather = [](const Value&) -> List { throw CommError("polling talks", 0, "all_gather"); };
  main.files->fail_at(2, ENOSPC);
  main.checkpointer.save_async("m");
  std::string message;
  while (message.empty()) message = main.error_of([&] { main.checkpointer.poll(); });
  EXPECT_TRUE(contains(message, "No space left")) << message;

  OneRank other(1);
  other.group->play_all_gather = main.group->play_all_gather;
  other.checkpointer.save_async("m");
  EXPECT_NO_THROW(other.checkpointer.poll());
}

TEST(Ranks, AnErrorOfTheWriterIsLoggedWhenTheGroupIsBroken) {
  OneRank main(0);
  std::string log;
  const LogCapture capture([&](LogLevel, std::string_view line) { log += std::string(line) + "\n"; });
  main.files->fail_at(2, ENOSPC);
  main.checkpointer.save_async("m");
  main.group->play_all_gather = [](const Value&) -> List { throw CommError("broken", 0, "all_gather"); };
  EXPECT_THROW(main.checkpointer.wait(), CommError);
  EXPECT_TRUE(contains(log, "No space left")) << log;
}

TEST(Ranks, NoRankLoadsWhenOneFails) {
  for (int rank : {0, 1}) {
    OneRank run(rank);
    save_checkpoint_file("out/m.pth", Dict{{"model", module_state_dict(SmallModel(5))}, {"counter", Dict{{"count", 3}}}},
                         {.file_system = run.files});
    run.other_says("the memory is too small");
    EXPECT_TRUE(contains(run.error_of([&] { run.checkpointer.load("out/m.pth"); }), "the memory is too small"));
    EXPECT_TRUE(run.unchanged());
    // It can read the file, and then its parts refuse it.
    run.other_says("the count is negative", true, /*successes=*/1);
    EXPECT_TRUE(contains(run.error_of([&] { run.checkpointer.load("out/m.pth"); }), "the count is negative"));
    EXPECT_TRUE(run.unchanged());
    run.other_says("");
    run.checkpointer.load("out/m.pth");
    EXPECT_EQ(run.model.value(), 5);
    EXPECT_EQ(run.counter.count, 3);
  }
}

TEST(Ranks, ARankThatDoesNotSeeTheFileGetsItFromTheMainProcess) {
  OneRank run(1);
  run.other_says("");
  const Dict sent{{"model", module_state_dict(SmallModel(5))}, {"counter", Dict{{"count", 3}}}};
  run.group->play_broadcast = [&](const Value&) -> Value { return sent; };
  run.checkpointer.load("out/m.pth");
  EXPECT_EQ(run.model.value(), 5);
  EXPECT_EQ(run.counter.count, 3);

  OneRank main(0);
  save_checkpoint_file("out/m.pth", sent, {.file_system = main.files});
  main.other_says("", false);
  Value broadcast;
  main.group->play_broadcast = [&](const Value& own) { return broadcast = own; };
  main.checkpointer.load("out/m.pth");
  EXPECT_TRUE(identical(broadcast, sent));
}

TEST(Ranks, AFileThatTheMainProcessLacksIsAnErrorOnAll) {
  OneRank run(1);
  save_checkpoint_file("out/m.pth", Dict{{"model", module_state_dict(SmallModel(5))}}, {.file_system = run.files});
  run.other_says("", false);
  EXPECT_TRUE(contains(run.error_of([&] { run.checkpointer.load("out/m.pth"); }), "main process does not see it"));
  EXPECT_TRUE(run.unchanged());
}

TEST(Ranks, WhyTheMainProcessDoesNotSeeAFileIsToldOnAll) {
  OneRank main(0);
  main.other_says("");
  main.files->fail_at(0, EACCES);
  EXPECT_TRUE(contains(main.error_of([&] { main.checkpointer.load("out/m.pth"); }), "Permission denied"));

  OneRank run(1);
  run.other_says("cannot examine \"out/m.pth\": Permission denied", false);
  EXPECT_TRUE(contains(run.error_of([&] { run.checkpointer.load("out/m.pth"); }), "rank 0: cannot examine"));
}

TEST(Ranks, AllResumeFromWhatTheMainProcessChose) {
  OneRank run(1);
  save_checkpoint_file("out/a.pth", Dict{{"model", module_state_dict(SmallModel(5))}}, {.file_system = run.files});
  save_checkpoint_file("out/b.pth", Dict{{"model", module_state_dict(SmallModel(6))}}, {.file_system = run.files});
  run.checkpointer.tag_last_checkpoint("b.pth");
  run.group->play_broadcast = [](const Value& own) -> Value { return own.is(Value::Type::string) ? Value("out/a.pth") : own; };
  run.checkpointer.resume_or_load("");
  EXPECT_EQ(run.model.value(), 5);
}

}  // namespace
}  // namespace treadle

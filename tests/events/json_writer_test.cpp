#include <treadle/base/errors.hpp>
#include <treadle/base/log.hpp>
#include <treadle/events/event_storage.hpp>
#include <treadle/events/json_writer.hpp>

#include <fmt/format.h>
#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>
#include <sys/resource.h>

#include <chrono>
#include <csignal>

#include "tests/events/scratch.hpp"

namespace treadle {
namespace {

struct Warnings {
  std::vector<std::string> lines;
  LogCapture capture{[this](LogLevel level, std::string_view text) {
    if (level == LogLevel::warning) lines.emplace_back(text);
  }};
};

TEST(JSONWriter, KeepsEveryUnsmoothedValue) {
  const ScratchFolder folder;
  JSONWriter writer({.file = folder / "metrics.json"});
  EventStorage storage;
  storage.put_scalar("AP", 1, false, 4);
  storage.put_scalar("AP", 2, false, 9);
  storage.put_scalar("AP", 3, false, 9);
  storage.put_scalar("AP50", 4, false, 9);
  storage.put_scalar("late", 5, false, 2);
  storage.put_scalar("loss", 6, true, 9);
  storage.put_scalar("loss", 8, true, 10);
  writer.write(storage);
  EXPECT_EQ(read_text(folder / "metrics.json"),
            "{\"iteration\": 2, \"late\": 5.0}\n"
            "{\"AP\": 1.0, \"iteration\": 4}\n"
            "{\"AP\": 2.0, \"iteration\": 9}\n"
            "{\"AP\": 3.0, \"AP50\": 4.0, \"iteration\": 9}\n"
            "{\"iteration\": 10, \"loss\": 7.0}\n");
  writer.write(storage);
  storage.put_scalar("AP", 9, false, 3);
  storage.put_scalar("loss", 9, true, 10);
  writer.write(storage);
  const std::string text = read_text(folder / "metrics.json");
  EXPECT_EQ(text.substr(text.find("7.0}\n") + 5), "{\"AP\": 9.0, \"iteration\": 3}\n");
}

TEST(JSONWriter, HonoursItsOptions) {
  const ScratchFolder folder;
  JSONWriter writer({.file = folder / "m", .window = 2, .latest_only = {"lr"}});
  EventStorage storage;
  for (int i = 0; i < 5; ++i, storage.step()) {
    storage.put_scalar("lr", i, false);
    storage.put_scalar("loss", i);
  }
  writer.write(storage);
  EXPECT_EQ(read_text(folder / "m"), "{\"iteration\": 4, \"loss\": 3.5, \"lr\": 4.0}\n");
  writer.write(storage);
  EXPECT_EQ(read_text(folder / "m"), "{\"iteration\": 4, \"loss\": 3.5, \"lr\": 4.0}\n");

  EXPECT_THROW(JSONWriter({.file = ""}), ConfigError);
  EXPECT_THROW(JSONWriter({.file = folder / "x", .window = 0}), ConfigError);
  EXPECT_FALSE(std::filesystem::exists(folder / "x"));
  EXPECT_THROW(JSONWriter({.file = folder / "absent/x"}), IoError);
}

TEST(JSONWriter, AppendsAndDropsATornLine) {
  const ScratchFolder folder;
  write_text(folder / "m", "{\"iteration\": 1}\n{\"itera");
  JSONWriter writer({.file = folder / "m"});
  EventStorage storage;
  storage.put_scalar("a", 1);
  writer.write(storage);
  writer.close();
  writer.close();
  EXPECT_EQ(read_text(folder / "m"), "{\"iteration\": 1}\n{\"a\": 1.0, \"iteration\": 0}\n");

  write_text(folder / "torn", std::string(200'000, 'x'));
  JSONWriter torn({.file = folder / "torn"});
  EXPECT_EQ(read_text(folder / "torn"), "");
}

/// A run of random puts and writes; the same seed gives the same run.
struct Action {
  int kind;  // 0, 1: smoothed; 2, 3: unsmoothed; 4: the next iteration; 5: write
  int value;
  int back;  // how far before the current iteration an unsmoothed value stands
};

void act(const Action& action, EventStorage& storage, JSONWriter& writer) {
  const std::string name(1, static_cast<char>('a' + action.kind));
  if (action.kind < 2)
    storage.put_scalar(name, action.value);
  else if (action.kind < 4)
    storage.put_scalar(name, action.value, false, storage.iter() - action.back);
  else if (action.kind == 4)
    storage.step();
  else
    writer.write(storage);
}

rc::Gen<std::vector<Action>> actions() {
  return rc::gen::container<std::vector<Action>>(rc::gen::build<Action>(rc::gen::set(&Action::kind, rc::gen::inRange(0, 6)),
                                                                        rc::gen::set(&Action::value, rc::gen::inRange(0, 9)),
                                                                        rc::gen::set(&Action::back, rc::gen::inRange(0, 3))));
}

RC_GTEST_PROP(JSONWriter, AResumedRunHasTheSameFile, ()) {
  const auto before = *actions(), lost = *actions(), after = *actions();
  const bool torn = *rc::gen::arbitrary<bool>();
  const std::chrono::hours delay(*rc::gen::element(0, 1));
  const ScratchFolder folder;
  EventStorage undisturbed;
  JSONWriter whole({.file = folder / "whole"});
  for (const auto* part : {&before, &after}) {
    for (const Action& action : *part) act(action, undisturbed, whole);
  }

  Dict storage_state, writer_state;
  {
    EventStorage storage;
    JSONWriter writer({.file = folder / "cut", .max_delay = delay});
    for (const Action& action : before) act(action, storage, writer);
    storage_state = deep_clone(storage.state_dict());
    writer_state = deep_clone(writer.state_dict());
    for (const Action& action : lost) act(action, storage, writer);
    writer.write(storage);
  }
  if (torn) write_text(folder / "cut", read_text(folder / "cut") + "{\"itera");

  EventStorage storage;
  JSONWriter writer({.file = folder / "cut", .max_delay = delay});
  storage.load_state_dict(storage_state);
  writer.check_state_dict(writer_state);
  writer.load_state_dict(writer_state);
  for (const Action& action : after) act(action, storage, writer);
  writer.close();
  RC_ASSERT(read_text(folder / "cut") == read_text(folder / "whole"));
}

/// Records and writes the next of the lines "a" 0, "a" 1, …
void write_line(EventStorage& storage, JSONWriter& writer) {
  storage.put_scalar("a", static_cast<double>(storage.iter()), false);
  writer.write(storage);
  storage.step();
}
std::string lines(int count) {
  std::string text;
  for (int i = 0; i < count; ++i) text += fmt::format("{{\"a\": {}.0, \"iteration\": {}}}\n", i, i);
  return text;
}

TEST(JSONWriter, LinesWaitForTheirDelayButNotForAStateOrTheEnd) {
  const ScratchFolder folder;
  EventStorage storage;
  JSONWriter writer({.file = folder / "m", .max_delay = std::chrono::hours(1)});
  write_line(storage, writer);
  write_line(storage, writer);
  write_line(storage, writer);
  EXPECT_EQ(read_text(folder / "m"), lines(1));
  const Dict events = deep_clone(storage.state_dict()), state = writer.state_dict();
  EXPECT_EQ(read_text(folder / "m"), lines(3));
  EXPECT_EQ(state.at("bytes").as_int(), static_cast<std::int64_t>(lines(3).size()));

  write_line(storage, writer);
  EXPECT_EQ(read_text(folder / "m"), lines(3));
  writer.load_state_dict(state);
  storage.load_state_dict(events);
  EXPECT_EQ(read_text(folder / "m"), lines(3));
  write_line(storage, writer);
  writer.close();
  EXPECT_EQ(read_text(folder / "m"), lines(4));

  EventStorage at_once_storage;
  JSONWriter at_once({.file = folder / "at once"});
  write_line(at_once_storage, at_once);
  write_line(at_once_storage, at_once);
  EXPECT_EQ(read_text(folder / "at once"), lines(2));
  EXPECT_THROW(JSONWriter({.file = folder / "x", .max_delay = std::chrono::milliseconds(-1)}), ConfigError);
}

TEST(JSONWriter, LinesThatWaitOutliveAFullDevice) {
  const ScratchFolder folder;
  std::signal(SIGXFSZ, SIG_IGN);
  rlimit unlimited{};
  ASSERT_EQ(getrlimit(RLIMIT_FSIZE, &unlimited), 0);
  EventStorage storage;
  JSONWriter writer({.file = folder / "m", .max_delay = std::chrono::hours(1)});
  write_line(storage, writer);
  write_line(storage, writer);
  const rlimit full{.rlim_cur = lines(1).size() + 5, .rlim_max = unlimited.rlim_max};
  ASSERT_EQ(setrlimit(RLIMIT_FSIZE, &full), 0);
  EXPECT_THROW(writer.close(), IoError);
  EXPECT_EQ(read_text(folder / "m"), lines(1));
  ASSERT_EQ(setrlimit(RLIMIT_FSIZE, &unlimited), 0);
  write_line(storage, writer);
  writer.close();
  EXPECT_EQ(read_text(folder / "m"), lines(3));
}

TEST(JSONWriter, CutsAnotherFileByIteration) {
  const ScratchFolder folder;
  EventStorage storage(7);
  JSONWriter writer({.file = folder / "m"});
  storage.put_scalar("a", 1);
  writer.write(storage);
  const Dict state = writer.state_dict();

  const std::string earlier =
      "{\"\\\"iteration\\\": 99\": 1.0, \"iteration\": 5}\nno object\n{\"a\": 1.0, \"iteration\": 7, \"z\": 99.0}\n";
  const std::string padding = "{\"b\": 0.0, \"iteration\": 3, \"" + std::string(70'000, 'x') + "\": 1.0}\n";
  write_text(folder / "m", padding + earlier + "{\"a\": 1.0, \"iteration\": 8}\n{\"a\": 1.0, \"iteration\": 6}\n");
  Warnings warnings;
  JSONWriter resumed({.file = folder / "m"});
  resumed.load_state_dict(state);
  EXPECT_EQ(read_text(folder / "m"), padding + earlier);
  ASSERT_EQ(warnings.lines.size(), 1U);
  EXPECT_NE(warnings.lines[0].find("iteration 7"), std::string::npos);

  write_text(folder / "short", "{\"iteration\": 2}\n");
  JSONWriter shorter({.file = folder / "short"});
  shorter.load_state_dict(state);
  EXPECT_EQ(read_text(folder / "short"), "{\"iteration\": 2}\n");
  EXPECT_EQ(warnings.lines.size(), 2U);
}

TEST(JSONWriter, GoesBackAfterItWasClosed) {
  const ScratchFolder folder;
  Warnings warnings;
  GuardedWriter writer(std::make_unique<JSONWriter>(JSONWriterOptions{.file = folder / "m"}), "metrics.json");
  EventStorage storage;
  storage.put_scalar("a", 1);
  writer.write(storage);
  const Dict events = deep_clone(storage.state_dict()), state = writer.state_dict();
  storage.set_iter(1);
  storage.put_scalar("a", 2);
  writer.write(storage);
  writer.close();

  storage.load_state_dict(events);
  writer.load_state_dict(state);
  EXPECT_EQ(read_text(folder / "m"), "{\"a\": 1.0, \"iteration\": 0}\n");
  storage.set_iter(1);
  storage.put_scalar("a", 4);
  writer.write(storage);
  EXPECT_EQ(read_text(folder / "m"), "{\"a\": 1.0, \"iteration\": 0}\n{\"a\": 2.5, \"iteration\": 1}\n");

  // Somebody else went on with the file in the meantime.
  writer.load_state_dict(state);
  writer.close();
  write_text(folder / "m", read_text(folder / "m") + "{\"a\": 9.0, \"iteration\": 2}\n");
  writer.load_state_dict(state);
  EXPECT_EQ(read_text(folder / "m"), "{\"a\": 1.0, \"iteration\": 0}\n");
  EXPECT_TRUE(warnings.lines.empty()) << warnings.lines.front();
}

TEST(JSONWriter, ALoadThatCannotCutTheFileChangesNothing) {
  const ScratchFolder folder;
  JSONWriter writer({.file = folder / "m"});
  EventStorage storage;
  storage.put_scalar("a", 1, false);
  const Dict empty = writer.state_dict();
  writer.write(storage);
  writer.close();
  const Dict before = writer.state_dict();
  std::filesystem::remove(folder / "m");
  std::filesystem::create_directory(folder / "m");
  EXPECT_THROW(writer.load_state_dict(empty), IoError);
  EXPECT_TRUE(identical(writer.state_dict(), before));
}

TEST(JSONWriter, NothingIsLostWhenTheDeviceIsFull) {
  if (!std::filesystem::exists("/dev/full")) GTEST_SKIP() << "this system has no /dev/full";
  const ScratchFolder folder;
  std::filesystem::create_symlink("/dev/full", folder / "m");
  JSONWriter writer({.file = folder / "m"});
  EventStorage storage;
  storage.put_scalar("a", 1);
  EXPECT_THROW(writer.write(storage), IoError);
  EXPECT_EQ(writer.state_dict().at("bytes").as_int(), 0);
  const Dict state = writer.state_dict();

  JSONWriter recovered({.file = folder / "good"});
  recovered.load_state_dict(state);
  recovered.write(storage);
  EXPECT_EQ(read_text(folder / "good"), "{\"a\": 1.0, \"iteration\": 0}\n");
}

TEST(JSONWriter, WritesEveryValueOfAScalarThatComesOneIterationLater) {
  const ScratchFolder folder;
  EventStorage storage;
  JSONWriter writer({.file = folder / "m", .window = 1});
  for (int i = 0; i < 3; ++i, storage.step()) {
    storage.put_scalar("time", i);
    if (i > 0) storage.put_scalar("loss", i - 1, true, i - 1);
    writer.write(storage);
    writer.write(storage);
  }
  EXPECT_EQ(read_text(folder / "m"),
            "{\"iteration\": 0, \"time\": 0.0}\n{\"iteration\": 0, \"loss\": 0.0}\n{\"iteration\": 1, \"time\": 1.0}\n"
            "{\"iteration\": 1, \"loss\": 1.0}\n{\"iteration\": 2, \"time\": 2.0}\n");
}

TEST(JSONWriter, RefusesBadStates) {
  const ScratchFolder folder;
  EventStorage storage;
  storage.put_scalar("a", 1, false);
  JSONWriter writer({.file = folder / "m"});
  writer.write(storage);
  const Dict good = writer.state_dict();
  EXPECT_NO_THROW(writer.check_state_dict(good));
  for (const Dict::Entry& entry : good) {
    Dict bad = good;
    bad.set(entry.key, List{});
    EXPECT_THROW(writer.check_state_dict(bad), FormatError) << entry.key.to_string();
  }
  for (const char* key : {"last_write", "written"}) {
    Dict bad = good;
    bad.at("cursor").as_dict().erase(key);
    EXPECT_THROW(writer.check_state_dict(bad), FormatError) << key;
    bad.at("cursor").as_dict().set(key, Dict{{"a", "much"}});
    EXPECT_THROW(writer.check_state_dict(bad), FormatError) << key;
  }
  Dict negative = good;
  negative.set("bytes", 3);
  EXPECT_THROW(writer.check_state_dict(negative), FormatError);
}

}  // namespace
}  // namespace treadle

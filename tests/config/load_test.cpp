#include <treadle/config/config.hpp>
#include <treadle/config/defaults.hpp>

#include "tests/config/helpers.hpp"

#include <pwd.h>
#include <unistd.h>

#include <cerrno>

namespace treadle {
namespace {

Config small() { return Config::parse("A: 0\nB: 0\nS:\n  X: 0\n  Y: ''\n"); }

Config load(const std::filesystem::path& file) {
  Config config = small();
  config.merge_from_file(file);
  return config;
}

TEST(Load, ValuesKnowTheFileAndLineTheyCameFrom) {
  const Folder folder;
  folder.write("base.yaml", "\nA: 1\nS:\n  X: 2\n");
  const auto file = folder.write("sub/a.yaml", "_BASE_: ../base.yaml\nS:\n  Y: text\n");
  const Config config = load(file);
  EXPECT_EQ(config.origin("A").to_string(), (folder / "sub/../base.yaml").string() + ":2");
  EXPECT_EQ(config.origin("S.X").line, 4);
  EXPECT_EQ(config.origin("S.Y").to_string(), file.string() + ":3");
  EXPECT_EQ(config.origin("B").to_string(), "text:2");
  EXPECT_EQ(config.files(), (std::vector<std::string>{file.string(), (folder / "sub/../base.yaml").string()}));
}

TEST(Load, BasesAreMergedInOrderBelowTheFile) {
  const Folder folder;
  folder.write("one.yaml", "A: 1\nB: 1\nS: {X: 1, Y: one}\n");
  folder.write("two.yaml", "_BASE_: three.yaml\nB: 2\n");
  folder.write("three.yaml", "S: {X: 3}\nB: 3\n");
  const Config config = load(folder.write("a.yaml", "_BASE_: [one.yaml, two.yaml]\nA: 9\n"));
  EXPECT_EQ(config.get_int("A"), 9);
  EXPECT_EQ(config.get_int("B"), 2);
  EXPECT_EQ(config.get_int("S.X"), 3);
  EXPECT_EQ(config.get_string("S.Y"), "one");
}

TEST(Load, ABaseMayStandInTheHomeFolder) {
  const Folder folder;
  folder.write("home/base.yaml", "A: 4\n");
  const std::string old_home = std::getenv("HOME") ? std::getenv("HOME") : "";
  setenv("HOME", (folder / "home/").c_str(), 1);
  const Config config = load(folder.write("a.yaml", "_BASE_: ~/base.yaml\n"));
  setenv("HOME", old_home.c_str(), 1);
  EXPECT_EQ(config.get_int("A"), 4);

  const passwd* user = getpwuid(geteuid());
  ASSERT_NE(user, nullptr);
  const auto named = folder.write("b.yaml", std::string("_BASE_: ~") + user->pw_name + "/no/such/file.yaml\n");
  expect_message<IoError>([&] { load(named); }, {std::string(user->pw_dir) + "/no/such/file.yaml"});
  const auto unknown = folder.write("c.yaml", "_BASE_: ~nobody_of_that_name/file.yaml\n");
  expect_message<IoError>([&] { load(unknown); }, {(folder / "~nobody_of_that_name/file.yaml").string()});
}

TEST(Load, ABaseIsFoundFromTheFileThatNamesItNotFromTheWorkingFolder) {
  const Folder folder;
  folder.write("d/base.yaml", "A: 5\n");
  folder.write("d/a.yaml", "_BASE_: base.yaml\n");
  const std::filesystem::path before = std::filesystem::current_path();
  std::filesystem::current_path(folder / "d");
  const Config config = load("a.yaml");
  std::filesystem::current_path(before);
  EXPECT_EQ(config.get_int("A"), 5);
}

TEST(Load, CyclesAreRefused) {
  const Folder folder;
  folder.write("a.yaml", "_BASE_: b.yaml\nA: 1\n");
  folder.write("b.yaml", "B: 1\n_BASE_: [c.yaml]\n");
  folder.write("c.yaml", "_BASE_: ./x/../a.yaml\n");
  std::filesystem::create_directory(folder / "x");
  std::filesystem::create_symlink(folder / "self.yaml", folder / "link.yaml");
  folder.write("self.yaml", "_BASE_: link.yaml\n");
  expect_message<ConfigError>([&] { load(folder / "a.yaml"); }, {(folder / "c.yaml").string() + ":1", "_BASE_", "a.yaml"});
  expect_message<ConfigError>([&] { load(folder / "self.yaml"); }, {"_BASE_", "link.yaml"});
  folder.write("twice.yaml", "_BASE_: [leaf.yaml, leaf.yaml]\n");
  folder.write("leaf.yaml", "A: 2\n");
  EXPECT_EQ(load(folder / "twice.yaml").get_int("A"), 2);
}

TEST(Load, BadBases) {
  const Folder folder;
  for (const char* base : {"5", "null", "[5]", "{A: 1}", "true"}) {
    const auto file = folder.write("a.yaml", "A: 1\n_BASE_: " + std::string(base) + "\n");
    expect_message<ConfigError>([&] { load(file); }, {file.string() + ":2", "_BASE_"});
  }
  const auto remote = folder.write("a.yaml", "_BASE_: https://example.org/a.yaml\n");
  expect_message<ConfigError>([&] { load(remote); }, {remote.string() + ":1", "https://example.org/a.yaml"});
  folder.write("leaf.yaml", "S: 5\n");
  const auto conflict = folder.write("b.yaml", "_BASE_: leaf.yaml\nS:\n  X: 1\n");
  expect_message<ConfigError>([&] { load(conflict); }, {conflict.string() + ":2", (folder / "leaf.yaml").string() + ":1", "S"});
  EXPECT_EQ(load(folder.write("c.yaml", "_BASE_: []\nA: 3\n")).get_int("A"), 3);
}

TEST(Load, UnreadableFiles) {
  const Folder folder;
  try {
    load(folder / "missing.yaml");
    ADD_FAILURE();
  } catch (const IoError& error) {
    EXPECT_EQ(error.error_number(), ENOENT);
    EXPECT_EQ(error.path(), folder / "missing.yaml");
  }
  std::filesystem::create_directory(folder / "folder.yaml");
  try {
    load(folder / "folder.yaml");
    ADD_FAILURE();
  } catch (const IoError& error) {
    EXPECT_EQ(error.error_number(), EISDIR);
  }
}

TEST(Load, ExpressionsCanBeRefused) {
  const Folder folder;
  const auto file = folder.write("a.yaml", "A: !!python/object/apply:eval [\"2 ** 5\"]\n");
  EXPECT_EQ(load(file).get_int("A"), 32);
  Config config = small();
  expect_message<ConfigError>([&] { config.merge_from_file(file, {.evaluate = false}); }, {file.string() + ":1", "A"});
  EXPECT_EQ(config.get_int("A"), 0);
  const auto code = folder.write("b.yaml", "A: !!python/object/apply:eval [\"__import__('os').getpid()\"]\n");
  expect_message<ConfigError>([&] { load(code); }, {code.string() + ":1", "A"});
  const auto shape = folder.write("c.yaml", "A: !!python/object/apply:eval [\"1\", \"2\"]\n");
  expect_message<ConfigError>([&] { load(shape); }, {shape.string() + ":1", "A"});
}

TEST(Load, ATreeWithoutVersionTakesFilesWithout) {
  const Folder folder;
  std::vector<std::string> lines;
  const LogCapture capture([&](LogLevel, std::string_view line) { lines.emplace_back(line); });
  load(folder.write("a.yaml", "A: 1\n"));
  EXPECT_TRUE(lines.empty());
  Config config = default_config();
  config.merge_from_file(folder.write("b.yaml", "SEED: 1\n"));
  ASSERT_EQ(lines.size(), 1u);
  EXPECT_NE(lines[0].find("VERSION"), std::string::npos);
}

TEST(Load, WhatTheSystemRefusesIsAnIoError) {
  const Folder folder;
  std::filesystem::create_symlink("loop.yaml", folder / "loop.yaml");
  const auto refused = [&](const std::filesystem::path& file, int error_number) {
    const std::string name = std::filesystem::path(file).filename().string();
    try {
      load(file);
      ADD_FAILURE() << name;
    } catch (const IoError& error) {
      EXPECT_EQ(error.error_number(), error_number) << name;
    }
  };
  const std::string long_name(300, 'x');
  refused(folder / "loop.yaml", ELOOP);
  refused(folder / long_name, ENAMETOOLONG);
  refused(folder / "", EISDIR);
  refused(folder.write("a.yaml", "_BASE_: loop.yaml\n"), ELOOP);
  refused(folder.write("b.yaml", "_BASE_: " + long_name + "\n"), ENAMETOOLONG);
  refused(folder.write("c.yaml", "_BASE_: a.yaml/d.yaml\n"), ENOTDIR);
  if (geteuid() != 0) {
    const auto closed = folder.write("closed/a.yaml", "A: 1\n");
    std::filesystem::permissions(closed.parent_path(), std::filesystem::perms::none);
    refused(closed, EACCES);
    refused(folder.write("d.yaml", "_BASE_: closed/a.yaml\n"), EACCES);
    std::filesystem::permissions(closed.parent_path(), std::filesystem::perms::owner_all);
  }
  // It can be opened, and not be read from its start.
  if (std::filesystem::exists("/proc/self/mem")) refused("/proc/self/mem", EIO);
}

}  // namespace
}  // namespace treadle

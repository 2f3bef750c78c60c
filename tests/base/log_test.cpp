#include <treadle/base/errors.hpp>
#include <treadle/base/log.hpp>

#include <fcntl.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <fstream>
#include <memory>
#include <regex>
#include <sstream>

namespace treadle {
namespace {

std::string read(const std::filesystem::path& path) {
  std::ostringstream text;
  text << std::ifstream(path).rdbuf();
  return text.str();
}

struct LogFile : testing::Test {
  std::filesystem::path folder = std::filesystem::temp_directory_path() / ("treadle_log_" + std::to_string(::getpid()));
  std::filesystem::path path = folder / "log.txt";
  void SetUp() override { std::filesystem::create_directories(folder); }
  void TearDown() override {
    configure_log({});
    std::filesystem::remove_all(folder);
  }
};

TEST_F(LogFile, HoldsEveryLineWithTimeNameAndLevel) {
  configure_log({.name = "mine", .file = path, .console = false});
  log_info("first");
  log_warning("second");
  log_error("third {not a format}");
  log_debug("hidden");
  const std::string text = read(path);
  const std::regex expected(
      R"(\[\d\d/\d\d \d\d:\d\d:\d\d mine\]: first\n\[[^\]]*\]: WARNING: second\n\[[^\]]*\]: ERROR: third \{not a format\}\n)");
  EXPECT_TRUE(std::regex_match(text, expected)) << text;
}

TEST_F(LogFile, AppendsAndHonoursTheLevel) {
  configure_log({.file = path, .console = false, .level = LogLevel::debug});
  log_debug("shown");
  configure_log({.file = path, .console = false, .level = LogLevel::error});
  log_warning("hidden");
  EXPECT_NE(read(path).find("shown"), std::string::npos);
  EXPECT_EQ(read(path).find("hidden"), std::string::npos);
}

TEST_F(LogFile, AFileThatCannotBeOpenedIsAnIoError) {
  EXPECT_THROW(configure_log({.file = folder / "absent" / ".." / ".." / "nowhere" / "\0", .console = false}), Error);
  std::ofstream(folder / "file") << "x";
  EXPECT_THROW(configure_log({.file = folder / "file" / "log.txt", .console = false}), IoError);
}

TEST_F(LogFile, NoStatusLineWithoutATerminal) {
  configure_log({.file = path, .console = false});
  set_status_line("iter 5");
  EXPECT_FALSE(has_status_line());
  EXPECT_FALSE(log_is_terminal());
}

TEST_F(LogFile, WarningsAreEchoedToADescriptorWithAPrefix) {
  const int echo = open((folder / "echo").c_str(), O_CREAT | O_WRONLY | O_CLOEXEC, 0600);
  EXPECT_FALSE(stdout_is_apart());
  echo_warnings(echo, "[rank 2] ");
  EXPECT_TRUE(stdout_is_apart());
  configure_log({.file = path, .console = false});
  log_info("hidden");
  log_warning("first");
  log_error("second");
  echo_warnings(STDOUT_FILENO, "");
  EXPECT_FALSE(stdout_is_apart());
  echo_warnings(-1, "");
  EXPECT_FALSE(stdout_is_apart());
  log_warning("too late");
  close(echo);
  EXPECT_EQ(read(folder / "echo"), "[rank 2] WARNING: first\n[rank 2] ERROR: second\n");
  EXPECT_NE(read(path).find("too late"), std::string::npos);
}

TEST(LogCapture, MayBeDestroyedInAnyOrder) {
  std::vector<std::string> lines;
  const auto note = [&](const char* who) {
    return [&lines, who](LogLevel, std::string_view line) { lines.push_back(who + std::string(line)); };
  };
  auto first = std::make_unique<LogCapture>(note("1 "));
  auto second = std::make_unique<LogCapture>(note("2 "));
  first.reset();
  log_info("a");
  auto third = std::make_unique<LogCapture>(note("3 "));
  second.reset();
  log_info("b");
  EXPECT_EQ(lines, (std::vector<std::string>{"2 a", "3 b"}));
}

TEST(LogCapture, TheNewestReceives) {
  std::vector<std::string> outer, inner;
  LogCapture first([&](LogLevel, std::string_view line) { outer.emplace_back(line); });
  log_info("a");
  {
    LogCapture second([&](LogLevel level, std::string_view line) {
      EXPECT_EQ(level, LogLevel::warning);
      inner.emplace_back(line);
    });
    log(LogLevel::warning, "b");
  }
  log_info("c");
  EXPECT_EQ(outer, (std::vector<std::string>{"a", "c"}));
  EXPECT_EQ(inner, std::vector<std::string>{"b"});
}

TEST(LogCapture, AHandlerMayLogToTheOneBefore) {
  std::vector<std::string> outer, inner;
  LogCapture first([&](LogLevel, std::string_view line) { outer.emplace_back(line); });
  LogCapture second([&](LogLevel level, std::string_view line) {
    inner.emplace_back(line);
    log(level, "heard " + inner.back());
  });
  log_info("a");
  log_warning("b");
  EXPECT_EQ(inner, (std::vector<std::string>{"a", "b"}));
  EXPECT_EQ(outer, (std::vector<std::string>{"heard a", "heard b"}));
}

TEST(LogCapture, AHandlerMayBeginAndEndCaptures) {
  std::vector<std::string> lines;
  const auto note = [&](const char* who) {
    return [&lines, who](LogLevel, std::string_view line) { lines.push_back(who + std::string(line)); };
  };
  LogCapture last(note("last "));
  std::unique_ptr<LogCapture> begun, ended;
  const auto own = std::make_shared<std::string>("own ");
  ended = std::make_unique<LogCapture>([&, own](LogLevel, std::string_view line) {
    begun = std::make_unique<LogCapture>(note("begun "));
    log_info("inside");
    ended.reset();
    lines.push_back(*own + std::string(line));
  });
  log_info("a");
  log_info("b");
  begun.reset();
  log_info("c");
  EXPECT_EQ(lines, (std::vector<std::string>{"begun inside", "own a", "begun b", "last c"}));
  EXPECT_EQ(own.use_count(), 1);
}

TEST(LogCapture, AHandlerThatThrowsHearsTheNextLine) {
  int heard = 0;
  LogCapture capture([&](LogLevel, std::string_view) {
    if (++heard == 1) throw Error("no more");
  });
  EXPECT_THROW(log_info("a"), Error);
  log_info("b");
  EXPECT_EQ(heard, 2);
}

}  // namespace
}  // namespace treadle

// Every line of shell in README.md, CONTRIBUTING.md, docs/ and the pages of the examples is typed here, or stands in a list of
// those that are not, with the reason and a check of what can be checked. No line of code is outside of a fence.
#include <tests/support/markdown.hpp>
#include <tests/support/process.hpp>
#include <tests/support/source_folder.hpp>
#include <tests/support/temporary_folder.hpp>
#include <tests/support/tiny_fashion.hpp>

#include <gtest/gtest.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <iterator>
#include <optional>
#include <regex>
#include <set>
#include <sstream>

namespace treadle {
namespace {

namespace fs = std::filesystem;

const fs::path kRoot = source_folder();

/// A line of shell, or one of a transcript with what it prints.
struct Line {
  fs::path page;
  int number = 0;
  std::string text;
  std::string output;  // of a transcript
  bool transcript = false;
  bool cell = false;  // of a table, which has one line for all
};

std::string where(const Line& line) { return line.page.string() + ":" + std::to_string(line.number) + ": " + line.text; }

std::vector<fs::path> pages() {
  std::vector<fs::path> found;
  for (const char* file : {"README.md", "CONTRIBUTING.md"}) {
    if (fs::exists(kRoot / file)) found.emplace_back(file);
  }
  for (const char* folder : {"docs", "examples"}) {
    for (const auto& entry : fs::recursive_directory_iterator(kRoot / folder)) {
      if (entry.path().extension() == ".md") found.push_back(fs::relative(entry.path(), kRoot));
    }
  }
  std::sort(found.begin(), found.end());
  return found;
}

/// Without the comment behind it.
std::string command_of(std::string text) {
  const std::size_t comment = text.starts_with("#") ? 0 : text.find(" #");
  if (comment != std::string::npos) text.resize(comment);
  text.erase(text.find_last_not_of(' ') + 1);
  return text;
}

/// Commands that stand as code in a cell of a table. A page of mistakes is typed by another test.
std::vector<Line> lines_of_tables(const fs::path& page) {
  std::vector<Line> found;
  if (page.filename() == "first_minutes.md") return found;
  static const std::regex cell(R"(\| `((treadle|make|build/release/|\.venv/)[^`]*)` \|)");
  int number = 0;
  for (const std::string& text : lines_of(read_text(kRoot / page))) {
    ++number;
    std::smatch match;
    if (text.starts_with("|") && std::regex_search(text, match, cell)) found.push_back({page, number, match[1], "", false, true});
  }
  return found;
}

std::vector<Line> lines_of_page(const fs::path& page) {
  std::vector<Line> found = lines_of_tables(page);
  for (const CodeBlock& block : code_blocks(read_text(kRoot / page))) {
    int number = block.line - 1;
    for (const std::string& text : lines_of(block.code)) {
      ++number;
      if (block.language == "sh") {
        if (!command_of(text).empty()) found.push_back({page, number, command_of(text), "", false});
      } else if (block.language == "console") {
        if (text.starts_with("$ ")) {
          found.push_back({page, number, text.substr(2), "", true});
        } else if (!found.empty()) {
          found.back().output += text + "\n";
        }
      }
    }
  }
  std::ranges::sort(found, {}, &Line::number);  // a line of a table has one command
  return found;
}

bool matches(const std::string& text, const std::string& pattern) {
  return std::regex_search(text, std::regex("^(" + pattern + ")"));
}

std::string word(const std::string& text, std::size_t index) {
  const std::vector<std::string> words = [&] {
    std::istringstream stream(text);
    return std::vector<std::string>(std::istream_iterator<std::string>(stream), {});
  }();
  return index < words.size() ? words[index] : "";
}

fs::path program() {
  const char* path = std::getenv("TREADLE_COMMAND");
  return fs::absolute(path != nullptr ? path : "build/release/bin/treadle");
}

/// A folder with what the lines of a page speak of; each page gets its own.
class Desk {
 public:
  Desk() {
    fs::create_symlink(kRoot / "configs", folder_ / "configs");
    fs::create_directory(folder_ / "data");
    write_tiny_fashion(folder_ / "data");
    for (const char* config : {"X", "your_config.yaml"})
      write_text(folder_ / config, "_BASE_: configs/fashion_mnist_cnn.yaml\nOUTPUT_DIR: output\n");
    type(small("treadle train --config-file X"));
    for (const char* file : {"A.pth", "B.pth", "other.pth"}) fs::copy_file(folder_ / "output/model_final.pth", folder_ / file);
    for (const char* run : {"output/a", "output/b"}) {
      fs::create_directory(folder_ / run);
      fs::copy_file(folder_ / "output/config.yaml", fs::path(folder_ / run) / "config.yaml");
    }
  }

  /// A line that does not end is stopped, so that the test can say which one it was.
  ProcessResult type(const std::string& text) const {
    const std::string path = program().parent_path().string() + ":" + (kRoot / ".venv/bin").string() + ":" + std::getenv("PATH");
    return run_process(
        {"/usr/bin/timeout", "120", "/bin/bash", "-c", "cd '" + folder_.path().string() + "' && exec < /dev/null\n" + text},
        {{"PATH", path}, {"OMP_NUM_THREADS", "1"}, {"COLUMNS", "80"}});
  }

  /// False for a line that needs Python's torch where there is none.
  bool can_type(const std::string& text) const {
    if (text.starts_with("torchrun ")) return type("command -v torchrun").status == 0;
    constexpr const char* exported =
        "python -c \"import torch; torch.jit.script(torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(784, "
        "10))).save('net.pt')\"";
    return text.find("net.pt") == std::string::npos || type(exported).status == 0;
  }

  /// The line with settings that make it short, where it reads a config and works with data.
  static std::string small(const std::string& text) {
    if (!std::regex_search(text, std::regex(R"(\btreadle (train|evaluate|data) .*--config-file)"))) return text;
    return text + " TREADLE.DATA_DIR data TREADLE.THREADS 1 SOLVER.MAX_ITER 4 SOLVER.WARMUP_ITERS 2 SOLVER.IMS_PER_BATCH 16" +
           " DATALOADER.NUM_WORKERS 1";
  }

 private:
  TemporaryFolder folder_;
};

/// Empty, or what is wrong with a command of `treadle` that cannot be typed here: an option that it does not have.
std::string unknown_option(const std::string& text) {
  const std::size_t at = text.find("treadle ");
  const std::string line = text.substr(at);
  const std::string help = run_process({program().string(), word(line, 1), "--help"}).out;
  const std::regex option(R"((^| )(--[a-z-]+))");
  for (std::sregex_iterator found(line.begin(), line.end(), option), end; found != end; ++found) {
    if (help.find((*found)[2]) == std::string::npos) return "treadle " + word(line, 1) + " has no option " + (*found)[2].str();
  }
  return "";
}

std::string unknown_target(const std::string& text) {
  const std::string target = word(text.substr(text.find("make ")), 1);
  return read_text(kRoot / "Makefile").find("\n" + target + ":") == std::string::npos ? "the Makefile has no " + target : "";
}

std::string unknown_example(const std::string& text) {
  const std::string name = fs::path(word(text, 0)).filename().string();
  const bool tested = read_text(kRoot / "examples/CMakeLists.txt").find("treadle_example(" + name + " ") != std::string::npos;
  return tested ? "" : "no test runs the example " + name;
}

/// Every test_ROOM has its folder.
std::string unknown_test(const std::string& text) {
  const std::regex test(R"(\btest_(\w+))");
  for (std::sregex_iterator found(text.begin(), text.end(), test), end; found != end; ++found) {
    if (!fs::exists(kRoot / "tests" / (*found)[1].str() / "CMakeLists.txt")) return "there is no test of " + (*found)[1].str();
  }
  return "";
}

std::string missing_script(const std::string& text) {
  return fs::exists(kRoot / word(text, 1)) ? "" : word(text, 1) + " does not exist";
}

/// Lines that are not typed here.
struct Exemption {
  std::string pattern;
  std::string reason;
  std::string (*problem)(const std::string& text);  // what can be checked all the same
};

const std::vector<Exemption>& exemptions() {
  static const std::vector<Exemption> list = {
      {R"(([A-Z_]+=\S+ )*make \w+)", "takes minutes, and tests run under one of these targets", unknown_target},
      {R"(build/release/examples/\w+)", "example.NAME types it", unknown_example},
      {R"(\.venv/bin/python examples/)", "example.NAME types it", missing_script},
      {R"(cmake --install build/release --prefix )", "the test install types it",
       [](const std::string&) { return std::string(); }},
      {R"(cmake -S \. -B build )", "the test install types it", [](const std::string&) { return std::string(); }},
      {R"(cmake --build build/release --target )", "takes minutes", unknown_test},
      {R"(build/release/tests/test_)", "a test by itself", unknown_test},
      {R"(srun .*treadle )", "needs SLURM; tests/launch plays its environment", unknown_option},
      {R"(mpirun .*treadle )", "needs Open MPI; tests/launch plays its environment", unknown_option},
      {R"(treadle .*tcp://node)", "needs two machines; tests/launch plays them on one", unknown_option},
  };
  return list;
}

TEST(DocCommands, EveryLineIsTypedOrExempt) {
  std::size_t typed = 0, exempt = 0;
  for (const fs::path& page : pages()) {
    const std::vector<Line> lines = lines_of_page(page);
    std::optional<Desk> desk;
    for (const Line& line : lines) {
      const auto exemption = std::find_if(exemptions().begin(), exemptions().end(),
                                          [&](const Exemption& each) { return matches(line.text, each.pattern); });
      if (exemption != exemptions().end()) {
        EXPECT_EQ(exemption->problem(line.text), "") << where(line);
        ++exempt;
        continue;
      }
      if (!desk) desk.emplace();
      if (!desk->can_type(line.text)) {
        EXPECT_EQ(unknown_option(line.text), "") << where(line);
        continue;
      }
      const ProcessResult result = desk->type(Desk::small(std::regex_replace(line.text, std::regex("^build/release/bin/"), "")));
      EXPECT_EQ(result.status, 0) << where(line) << "\n" << result.err;
      if (line.transcript) {
        EXPECT_EQ(result.out, line.output) << where(line);
      }
      ++typed;
    }
  }
  EXPECT_GE(typed, 25u);
  EXPECT_GE(exempt, 10u);
}

TEST(DocCommands, EveryExemptionIsNeeded) {
  for (const Exemption& exemption : exemptions()) {
    bool used = false;
    for (const fs::path& page : pages()) {
      for (const Line& line : lines_of_page(page)) used = used || matches(line.text, exemption.pattern);
    }
    EXPECT_TRUE(used) << exemption.pattern << " (" << exemption.reason << ") fits no line";
  }
}

/// Everything that examples/CMakeLists.txt types to try an example, in order; empty when there is no such example.
std::vector<std::string> steps_of_example(const std::string& name) {
  std::string text = read_text(kRoot / "examples/CMakeLists.txt");
  const std::size_t begin = text.find("treadle_example(" + name + " ");
  if (begin == std::string::npos) return {};
  text = text.substr(begin, text.find("treadle_example(", begin + 1) - begin);
  const auto script = [&](const std::string& step) {
    std::smatch match;
    const std::regex command(step + R"( "'\$\{python\}'( -B)? '\$\{CMAKE_CURRENT_SOURCE_DIR\}/([^']+)')");
    return std::regex_search(text, match, command) ? ".venv/bin/python examples/" + match[2].str() : "";
  };
  std::vector<std::string> steps = {script("FIRST"), "build/release/examples/" + name, script("THEN")};
  std::erase(steps, "");
  return steps;
}

/// The example that a line belongs to, or "".
std::string example_of(const std::string& text) {
  static const std::regex program(R"((^| )(build/release/|\.venv/bin/python )examples/(\w+))");
  std::smatch match;
  if (!std::regex_search(text, match, program)) return "";
  return match[3];
}

/// A program that needs what another one writes does not stand alone: in a table all commands are on its line, joined by `&&`,
/// elsewhere all are on the page.
TEST(DocCommands, ExamplesStandWithAllOfTheirCommands) {
  std::size_t seen = 0;
  for (const fs::path& page : pages()) {
    const std::vector<Line> lines = lines_of_page(page);
    for (const Line& line : lines) {
      const std::vector<std::string> steps = steps_of_example(example_of(line.text));
      std::string joined;
      auto at = lines.begin();
      for (const std::string& step : steps) {
        joined += (joined.empty() ? "" : " && ") + step;
        at = line.cell ? at : std::find_if(at, lines.end(), [&](const Line& each) { return each.text == step; });
        EXPECT_NE(at, lines.end()) << where(line) << "\nwants this line before or behind it:\n" << step;
      }
      if (line.cell && !steps.empty()) {
        EXPECT_EQ(line.text, joined) << where(line);
      }
      seen += steps.empty() ? 0 : 1;
    }
  }
  EXPECT_GE(seen, 12u);
}

/// Languages of fences. Only `sh` and `console` are typed; a command in another one would escape.
TEST(DocCommands, CodeStandsInFencesOfAKnownLanguage) {
  const std::set<std::string> known = {"sh", "console", "cpp", "cmake", "yaml", "json", "python", "text", "mermaid"};
  const std::regex command(
      R"(^\$? ?(treadle (train|evaluate|config|schedule|data|inspect|verify|diff) |make [a-z]+$|cmake -|ctest ))");
  for (const fs::path& page : pages()) {
    const std::string text = read_text(kRoot / page);
    for (const CodeBlock& block : code_blocks(text)) {
      EXPECT_TRUE(known.contains(block.language)) << page << ":" << block.line << ": ```" << block.language;
      if (block.language == "sh" || block.language == "console") continue;
      int number = block.line - 1;
      for (const std::string& line : lines_of(block.code)) {
        ++number;
        EXPECT_FALSE(block.language == "text" && std::regex_search(line, command) && line.find("…") == std::string::npos)
            << page << ":" << number << ": a command outside of a block of sh: " << line;
      }
    }
    bool fenced = false;
    int number = 0;
    for (const std::string& line : lines_of(text)) {
      ++number;
      if (line.starts_with("```")) fenced = !fenced;
      EXPECT_FALSE(!fenced && line.starts_with("    ")) << page << ":" << number << ": code without a fence: " << line;
    }
  }
}

}  // namespace
}  // namespace treadle

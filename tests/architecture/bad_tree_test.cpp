#include "rules.hpp"

#include "tests/support/source_folder.hpp"

#include <gtest/gtest.h>

#include <unistd.h>
#include <fstream>

/// Each rule, fed with a tree that breaks it, says so with file and line; and passes over what only looks alike.
namespace treadle::architecture {
namespace {

namespace fs = std::filesystem;

class BadTree : public testing::Test {
 protected:
  void SetUp() override {
    const auto* info = testing::UnitTest::GetInstance()->current_test_info();
    root_ = fs::temp_directory_path() / ("treadle_bad_tree_" + std::to_string(getpid()) + "_" + info->name());
    fs::create_directories(root_);
  }
  void TearDown() override { fs::remove_all(root_); }

  void write(const std::string& file, const std::string& text) const {
    fs::create_directories((root_ / file).parent_path());
    std::ofstream(root_ / file, std::ios::binary) << text;
  }

  static std::vector<std::string> places(const std::vector<Violation>& violations) {
    std::vector<std::string> texts;
    for (const Violation& v : violations) texts.push_back(v.file.generic_string() + ":" + std::to_string(v.line));
    return texts;
  }

  using Places = std::vector<std::string>;
  fs::path root_;
};

TEST_F(BadTree, IncludesAcrossRooms) {
  write("include/treadle/solver/bad.hpp",
        "#pragma once\n#include <treadle/base/value.hpp>\n#include <treadle/engine/trainer.hpp>\n");
  write("include/treadle/base.hpp", "#pragma once\n#include <treadle/comm.hpp>\n");
  write("src/events/bad.cpp", "#include \"hooks/private.hpp\"\n#include <image/private.hpp>\n#include \"own.hpp\"\n");
  write("src/data/bad.cpp", "#include \"../config/tree.hpp\"\n");
  write("src/models/bad.cpp", "#  include \"treadle/nosuchroom/x.hpp\"\n");
  EXPECT_EQ(places(forbidden_includes(root_)), (Places{"include/treadle/base.hpp:2", "include/treadle/solver/bad.hpp:3",
                                                       "src/data/bad.cpp:1", "src/events/bad.cpp:1", "src/models/bad.cpp:1"}));
}

TEST_F(BadTree, IncludesThatAreAllowed) {
  write(
      "src/hooks/good.cpp",
      "#include <treadle/hooks/best.hpp>\n#include <treadle/engine.hpp>\n// #include <treadle/config/config.hpp>\n"
      "/*\n#include <treadle/app/app.hpp>\n*/\n#include <vector>\n#include <ATen/core/Tensor.h>\n#include \"hooks/table.hpp\"\n");
  write("include/treadle/treadle.hpp", "#pragma once\n#include <treadle/app/app.hpp>\n");
  EXPECT_EQ(places(forbidden_includes(root_)), Places{});
}

TEST_F(BadTree, EveryPairThatTheTableDoesNotList) {
  for (const auto& [from, allowed] : allowed_includes()) {
    std::string text;
    std::size_t forbidden = 0;
    for (const auto& [to, unused] : allowed_includes()) {
      text += "#include <treadle/" + to + "/x.hpp>\n";
      if (to != from && !allowed.contains(to)) ++forbidden;
    }
    write("src/" + from + "/all.cpp", text);
    EXPECT_EQ(forbidden_includes(root_).size(), forbidden) << from;
    fs::remove(root_ / "src" / from / "all.cpp");
  }
}

TEST_F(BadTree, LeakedLibraries) {
  write("include/treadle/comm/bad.hpp", "#pragma once\n#include <fmt/format.h>\n");
  write("src/comm/bad.cpp", "#include <fmt/format.h>\n#include <spdlog/spdlog.h>\n");
  write("src/base/log.cpp", "#include <spdlog/spdlog.h>\n");
  EXPECT_EQ(places(leaked_libraries(root_)), (Places{"include/treadle/comm/bad.hpp:2", "src/comm/bad.cpp:2"}));
}

TEST_F(BadTree, EndsOfTheProcess) {
  for (const char* call : {"std::exit(1)", "exit (1)", "::abort()", "std::abort()", "quick_exit(2)", "std::terminate()"}) {
    write("src/engine/bad.cpp", "void f() {\n  " + std::string(call) + ";\n}\n");
    EXPECT_EQ(places(forbidden_calls(root_)), Places{"src/engine/bad.cpp:2"}) << call;
  }
}

TEST_F(BadTree, WritesToTheTerminal) {
  for (const char* call :
       {"std::cout << 1", "std::cerr << 1", "std::clog << 1", "printf(\"x\")", "std::printf(\"x\")", "fprintf(stderr, \"x\")",
        "puts(\"x\")", "fputs(\"x\", stdout)", "perror(\"x\")", "fmt::print(\"x\")"}) {
    write("include/treadle/engine/bad.hpp", "#pragma once\ninline void f() { " + std::string(call) + "; }\n");
    EXPECT_EQ(places(forbidden_calls(root_)), Places{"include/treadle/engine/bad.hpp:2"}) << call;
  }
}

TEST_F(BadTree, CallsThatOnlyLookForbidden) {
  write("src/launch/good.cpp",
        "// exit(1)\nconst char* s = \"exit(1) std::cout\";\nauto r = R\"(abort(\n)\";\nvoid f() { _exit(1); on_exit(2); "
        "group.abort(); p->abort(); }\n"
        "int n = 1'000; char c = '\"'; int k = std::snprintf(b, 3, \"x\");\n");
  write("src/app/main.cpp", "void f() { std::cout << 1; std::exit(2); }\n");
  write("src/base/log.cpp", "void f() { fputs(line, stderr); }\n");
  EXPECT_EQ(places(forbidden_calls(root_)), Places{});
}

TEST_F(BadTree, HeadersWithoutPragmaOnce) {
  write("include/treadle/base/bad.hpp", "\n#pragma once\n");
  write("include/treadle/base/guard.hpp", "#ifndef X\n#define X\n#endif\n");
  write("include/treadle/base/good.hpp", "#pragma once\n\nint f();\n");
  EXPECT_EQ(places(headers_without_pragma_once(root_)),
            (Places{"include/treadle/base/bad.hpp:1", "include/treadle/base/guard.hpp:1"}));
}

TEST_F(BadTree, OverlongFiles) {
  const auto lines = [](int count) {
    std::string text;
    for (int i = 0; i < count; ++i) text += "int x;\n";
    return text;
  };
  write("include/treadle/base/at_limit.hpp", lines(199));
  write("include/treadle/base/over.hpp", lines(200));
  write("src/base/at_limit.cpp", lines(399));
  write("src/base/over.cpp", lines(400));
  write("tests/base/over_test.cpp", lines(401));
  EXPECT_EQ(places(overlong_files(root_)),
            (Places{"include/treadle/base/over.hpp:200", "src/base/over.cpp:400", "tests/base/over_test.cpp:401"}));
}

TEST_F(BadTree, PathsOfOneMachine) {
  const std::string slash = "/";
  write("src/base/bad.cpp", "int x;\nauto p = \"" + slash + "home/ann/data\";\n");
  write("docs/bad.md", "See " + slash + "work/main/README.md.\n");
  write("Makefile", "PREFIX := " + slash + "root/torch\n");
  for (const char* file : {"cmake/a.in", "CONTRIBUTING.md", "tests/base/b.toml", "tools/c.py"})
    write(file, "# " + slash + "home/ann\n");
  write("README.md", "Here: a" + slash + "home/x, ~" + slash + "work/x, https:" + slash + slash + "x.org/home/y and networks.\n");
  EXPECT_EQ(places(machine_paths(root_)), (Places{"src/base/bad.cpp:2", "tests/base/b.toml:1", "cmake/a.in:1", "docs/bad.md:1",
                                                  "tools/c.py:1", "Makefile:1", "CONTRIBUTING.md:1"}));
}

TEST_F(BadTree, RoomsWithoutParagraph) {
  for (const char* room : {"base", "comm", "data", "models", "solver", "strange"})
    write(std::string("include/treadle/") + room + "/x.hpp", "");
  const std::string sentence = "It holds the types that everything else shares, and nothing that needs a network.\n";
  write("docs/architecture.md", "# Rooms\n\n## `base`\n" + sentence + "\n## `comm`\n\n## `strange`\n" + sentence +
                                    "\n- **`data`** " + sentence + "- `models`: short\n\nThe `solver` is named in the middle. " +
                                    sentence);
  std::set<std::string> messages;
  for (const Violation& v : undescribed_rooms(root_)) messages.insert(to_string(v));
  EXPECT_EQ(messages, (std::set<std::string>{
                          "docs/architecture.md:0: lacks a paragraph on the room `comm`",
                          "docs/architecture.md:0: lacks a paragraph on the room `models`",
                          "docs/architecture.md:0: lacks a paragraph on the room `solver`",
                          "include/treadle/strange:0: is no room of the table in tests/architecture/rules.cpp",
                      }));
  fs::remove(root_ / "docs/architecture.md");
  EXPECT_EQ(undescribed_rooms(root_).size(), 7u);
}

TEST_F(BadTree, APageThatAllowsOtherIncludes) {
  std::string page = read_file(Root(treadle::source_folder()) / "docs/architecture.md");
  write("docs/architecture.md", page);
  EXPECT_EQ(places(includes_that_differ(root_)), Places{});
  const auto changed = [&](const std::string& row, const std::string& instead) {
    std::string text = page;
    text.replace(text.find(row), row.size(), instead);
    write("docs/architecture.md", text);
    std::set<std::string> messages;
    for (const Violation& violation : includes_that_differ(root_)) messages.insert(violation.message);
    return messages;
  };
  const std::string differs = "tests/architecture/rules.cpp has another list for the room `";
  EXPECT_EQ(changed("| `launch` | base, comm |", "| `launch` | base |"), std::set{differs + "launch`: base, comm"});
  EXPECT_TRUE(changed("| `launch` | base, comm |\n", "").contains(differs + "launch`: base, comm"));
  EXPECT_TRUE(changed("| `app` | all |", "| `app` | all |\n| `extra` | nothing of ours |")
                  .contains(differs + "extra`: it has no such room"));
  EXPECT_EQ(changed("but image and config", "but image").size(), 1u);
  EXPECT_EQ(changed("all but launch and app", "all but app").size(), 1u);
}

TEST_F(BadTree, LinksAndFilesThatDoNotExist) {
  write("docs/good.md", "");
  write("src/base/value.cpp", "");
  write("docs/a.md",
        "[good](good.md) [part](good.md#here) [self](#x) [site](https://example.org/x)\n[bad](gone.md)\n"
        "`src/base/value.cpp` and `src/base/gone.cpp`\n`docs/*.md`, `src/<room>/x`, `include/ROOM/`, `make test`\n"
        "```\n[not](checked.md) `src/none.cpp`\n```\n[up](../README.md)\n");
  write("README.md", "[docs](docs/a.md) ![image](docs/gone.png)\n");
  EXPECT_EQ(places(broken_references(root_)), (Places{"docs/a.md:2", "docs/a.md:3", "README.md:1"}));
}

TEST_F(BadTree, CodeThatNoExampleHas) {
  write("examples/a/main.cpp", "int main() {\n  train();\n\n  stop();\n}\n");
  write("README.md", "```cpp\ntrain();\nstop();\n```\nand\n```cpp\n  train(1);\n```\n");
  EXPECT_EQ(places(code_of_no_example(root_)), (Places{"README.md:6"}));
}

TEST_F(BadTree, ConfigKeysThatDoNotExist) {
  write("configs/defaults.yaml", "SEC:\n  BEE: 1  # text: CEE\n  DEE:\n    EAR: 2\nEFF: 3\n");
  write("docs/a.md", "`SEC.BEE`, SEC.DEE.EAR\n\n    treadle train SEC.EAR 3\n");
  EXPECT_EQ(places(unknown_config_keys(root_)), (Places{"docs/a.md:3"}));
}

}  // namespace
}  // namespace treadle::architecture

#include "rules.hpp"

#include <algorithm>
#include <optional>
#include <regex>

namespace fs = std::filesystem;

namespace treadle::architecture {

namespace {

const std::vector<std::string> kSources = {".hpp", ".cpp", ".h", ".cc", ".inc"};

std::vector<fs::path> room_files(const Root& root) {
  std::vector<fs::path> files = files_below(root, "include/treadle", kSources);
  const std::vector<fs::path> sources = files_below(root, "src", kSources);
  files.insert(files.end(), sources.begin(), sources.end());
  return files;
}

/// The room of `include/treadle/ROOM/…`, `include/treadle/ROOM.hpp` and `src/ROOM/…`; none for a file beside the rooms.
std::optional<std::string> room_of(const fs::path& file) {
  std::vector<std::string> parts;
  for (const fs::path& part : file) parts.push_back(part.string());
  const std::size_t index = parts.front() == "include" ? 2 : 1;
  if (parts.size() > index + 1) return parts[index];
  if (parts.size() == index + 1 && parts.front() == "include") return fs::path(parts[index]).stem().string();
  return std::nullopt;
}

struct Include {
  int line;
  std::string path;
};

std::vector<Include> includes_of(const fs::path& file) {
  static const std::regex directive(R"(^\s*#\s*include\s*[<"]([^>"]+)[>"])");
  std::vector<Include> includes;
  int number = 0;
  for (const std::string& line : split_lines(without_comments(read_file(file), Strings::keep))) {
    ++number;
    std::smatch match;
    if (std::regex_search(line, match, directive)) includes.push_back({number, match[1]});
  }
  return includes;
}

/// The room that an include of `treadle/ROOM/…`, `treadle/ROOM.hpp` or `ROOM/…` (a private header) leads to.
std::optional<std::string> room_of_include(const std::string& path) {
  static const std::regex public_header(R"(^treadle/([a-z_]+)(/|\.hpp$))");
  static const std::regex private_header(R"(^([a-z_]+)/)");
  std::smatch match;
  if (std::regex_search(path, match, public_header)) return match[1];
  if (std::regex_search(path, match, private_header) && allowed_includes().contains(match[1])) return match[1];
  return std::nullopt;
}

}  // namespace

std::string joined(const std::set<std::string>& rooms) {
  std::string text;
  for (const std::string& room : rooms) text += (text.empty() ? "" : ", ") + room;
  return text.empty() ? "no other room" : text;
}

const std::map<std::string, std::set<std::string>>& allowed_includes() {
  static const std::map<std::string, std::set<std::string>> table = {
      {"base", {}},
      {"image", {"base"}},
      {"config", {"base"}},
      {"comm", {"base"}},
      {"events", {"base", "image"}},
      {"models", {"base", "comm"}},
      {"data", {"base", "comm", "image"}},
      {"solver", {"base"}},
      {"checkpoint", {"base", "comm"}},
      {"evaluation", {"base", "comm", "data", "models"}},
      {"engine", {"base", "comm", "events", "models", "data", "solver"}},
      {"hooks", {"base", "comm", "events", "models", "data", "solver", "checkpoint", "evaluation", "engine"}},
      {"defaults",
       {"base", "image", "config", "comm", "events", "models", "data", "solver", "checkpoint", "evaluation", "engine", "hooks"}},
      {"launch", {"base", "comm"}},
      {"app",
       {"base", "image", "config", "comm", "events", "models", "data", "solver", "checkpoint", "evaluation", "engine", "hooks",
        "defaults", "launch"}},
  };
  return table;
}

const std::map<std::string, std::string>& long_files() {
  static const std::map<std::string, std::string> files = {};
  return files;
}

std::vector<Violation> forbidden_includes(const Root& root) {
  std::vector<Violation> violations;
  for (const fs::path& file : room_files(root)) {
    const std::optional<std::string> room = room_of(file);
    // A header beside the rooms (treadle/treadle.hpp) gathers them and may include all.
    if (!room || !allowed_includes().contains(*room)) continue;
    const std::set<std::string>& allowed = allowed_includes().at(*room);
    for (const Include& include : includes_of(root / file)) {
      if (include.path.starts_with("../") || include.path.find("/../") != std::string::npos) {
        violations.push_back(
            {file, include.line, "includes \"" + include.path + "\": write the path from include/ or src/, without .."});
        continue;
      }
      const std::optional<std::string> target = room_of_include(include.path);
      if (!target || *target == *room || allowed.contains(*target)) continue;
      violations.push_back({file, include.line,
                            "the room '" + *room + "' may not include '" + *target + "' (" + include.path + "); it may include " +
                                joined(allowed)});
    }
  }
  return violations;
}

std::vector<Violation> leaked_libraries(const Root& root) {
  std::vector<Violation> violations;
  for (const fs::path& file : room_files(root)) {
    const bool is_public = file.generic_string().starts_with("include/");
    for (const Include& include : includes_of(root / file)) {
      const bool spdlog = include.path.starts_with("spdlog/");
      if (is_public && (spdlog || include.path.starts_with("fmt/"))) {
        violations.push_back({file, include.line, "a public header may not include <" + include.path + ">"});
      } else if (spdlog && file != fs::path("src/base/log.cpp")) {
        violations.push_back(
            {file, include.line, "only src/base/log.cpp may include <" + include.path + ">: log through treadle/base/log.hpp"});
      }
    }
  }
  return violations;
}

std::vector<Violation> forbidden_calls(const Root& root) {
  // Calls of a member (`group.abort()`) are somebody else's function; `_exit` is what a forked child must use.
  static const std::regex ends(R"((^|[^\w.>])((std::)?(exit|quick_exit|abort|terminate)\s*\())");
  static const std::regex writes(
      R"((^|[^\w.>])(std::(cout|cerr|clog)\b|(std::)?(v?f?printf|f?puts|fputc|putchar|perror)\s*\(|fmt::print\s*\())");
  std::vector<Violation> violations;
  for (const fs::path& file : room_files(root)) {
    if (room_of(file) == "app" || file == fs::path("src/base/log.cpp")) continue;
    int number = 0;
    for (const std::string& line : split_lines(without_comments(read_file(root / file), Strings::blank))) {
      ++number;
      std::smatch match;
      if (std::regex_search(line, match, ends)) {
        violations.push_back(
            {file, number, "a library room may not end the process (" + match[2].str() + "): throw a treadle::Error"});
      }
      if (std::regex_search(line, match, writes)) {
        violations.push_back(
            {file, number, "a library room may not write to the terminal (" + match[2].str() + "): use treadle/base/log.hpp"});
      }
    }
  }
  return violations;
}

std::vector<Violation> headers_without_pragma_once(const Root& root) {
  std::vector<Violation> violations;
  for (const fs::path& file : files_below(root, "include", {".hpp", ".h"})) {
    if (!read_file(root / file).starts_with("#pragma once\n")) {
      violations.push_back({file, 1, "a public header begins with the line #pragma once"});
    }
  }
  return violations;
}

std::vector<Violation> overlong_files(const Root& root) {
  std::vector<Violation> violations;
  for (const char* folder : {"include", "src", "tests", "examples", "benches"}) {
    for (const fs::path& file : files_below(root, folder, kSources)) {
      if (long_files().contains(file.generic_string())) continue;
      const std::size_t limit = file.extension() == ".hpp" || file.extension() == ".h" ? 200 : 400;
      const std::size_t lines = split_lines(read_file(root / file)).size();
      if (lines >= limit) {
        violations.push_back({file, static_cast<int>(lines),
                              std::to_string(lines) + " lines, the limit is " + std::to_string(limit - 1) +
                                  ": split it into files that hold one idea each"});
      }
    }
  }
  return violations;
}

std::vector<Violation> machine_paths(const Root& root) {
  // Written without the leading slash, so that this file is clean itself.
  static const std::regex path(R"((^|[^\w.~})/-])/((home|Users)/\w|(root|work)/))");
  std::vector<fs::path> files;
  for (const char* folder : {"include", "src", "tests", "examples", "benches", "cmake", "configs", "docs", "tools", ".ci"}) {
    for (fs::path& file : files_below(
             root, folder,
             {".hpp", ".cpp", ".h", ".inc", ".txt", ".cmake", ".in", ".md", ".sh", ".py", ".toml", ".yaml", ".supp", ""})) {
      if (!file.generic_string().starts_with("tests/reference/") || file.extension() != ".txt") files.push_back(std::move(file));
    }
  }
  for (const char* file : {"CMakeLists.txt", "CMakePresets.json", "Makefile", "README.md", "CONTRIBUTING.md"})
    files.emplace_back(file);
  std::vector<Violation> violations;
  for (const fs::path& file : files) {
    int number = 0;
    for (const std::string& line : split_lines(read_file(root / file))) {
      ++number;
      if (std::regex_search(line, path)) violations.push_back({file, number, "names a folder of one machine: " + line});
    }
  }
  return violations;
}

}  // namespace treadle::architecture

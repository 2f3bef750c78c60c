#include "rules.hpp"

#include <algorithm>
#include <regex>
#include <set>

namespace fs = std::filesystem;

namespace treadle::architecture {

namespace {

/// A paragraph says something when it has about a sentence.
constexpr std::size_t kSentence = 60;

std::size_t letters(std::string_view text) {
  return static_cast<std::size_t>(std::count_if(text.begin(), text.end(), [](char c) { return c != ' ' && c != '#'; }));
}

bool is_heading(const std::string& line) { return line.starts_with("#"); }

/// The length of the text that belongs to the room: below its heading up to the next one, or its own paragraph or list item.
std::size_t description_length(const std::vector<std::string>& lines, const std::string& room) {
  const std::regex heading("^#+ .*`" + room + "`");
  const std::regex item("^(- |\\* |\\| *)?(\\*\\*)?`" + room + "`");
  std::size_t best = 0;
  for (std::size_t i = 0; i < lines.size(); ++i) {
    const bool heads = std::regex_search(lines[i], heading);
    if (!heads && !std::regex_search(lines[i], item)) continue;
    std::size_t length = heads ? 0 : letters(lines[i]);
    for (std::size_t k = i + 1; k < lines.size() && !is_heading(lines[k]); ++k) {
      if (!heads && (lines[k].empty() || lines[k].starts_with("- ") || lines[k].starts_with("|"))) break;
      length += letters(lines[k]);
    }
    best = std::max(best, length);
  }
  return best;
}

/// The text with fenced blocks emptied: what stands there is an example.
std::vector<std::string> prose_lines(const fs::path& file) {
  std::vector<std::string> lines = split_lines(read_file(file));
  bool fenced = false;
  for (std::string& line : lines) {
    const bool fence = line.starts_with("```");
    if (fence) fenced = !fenced;
    if (fence || fenced) line.clear();
  }
  return lines;
}

std::vector<fs::path> documents(const Root& root) {
  std::vector<fs::path> files = files_below(root, "docs", {".md"});
  for (const char* file : {"README.md", "CONTRIBUTING.md"}) {
    if (fs::exists(root / file)) files.emplace_back(file);
  }
  return files;
}

bool leads_somewhere(const Root& root, const fs::path& file, const std::string& link) {
  static const std::regex elsewhere(R"(^([a-z]+:|#))");
  if (std::regex_search(link, elsewhere)) return true;
  const fs::path target = link.substr(0, link.find('#'));
  return fs::exists(root / file.parent_path() / target);
}

/// A pattern (`src/<room>/`, `docs/*.md`) or a placeholder in capitals (`src/ROOM`) names no one file.
bool is_placeholder(const std::string& path) {
  static const std::regex capitals(R"((^|/)[A-Z_]{2,}(/|$))");
  return path.find_first_of("*<>{}$…") != std::string::npos || std::regex_search(path, capitals);
}

}  // namespace

std::vector<Violation> undescribed_rooms(const Root& root) {
  std::vector<Violation> violations;
  const std::vector<std::string> lines = split_lines(read_file(root / "docs/architecture.md"));
  if (!fs::is_directory(root / "include/treadle")) return violations;
  for (const auto& entry : fs::directory_iterator(root / "include/treadle")) {
    if (!entry.is_directory()) continue;
    const std::string room = entry.path().filename().string();
    if (!allowed_includes().contains(room)) {
      violations.push_back({"include/treadle/" + room, 0, "is no room of the table in tests/architecture/rules.cpp"});
    }
    if (description_length(lines, room) < kSentence) {
      violations.push_back({"docs/architecture.md", 0, "lacks a paragraph on the room `" + room + "`"});
    }
  }
  return violations;
}

namespace {

using Table = std::map<std::string, std::set<std::string>>;

std::set<std::string> names_in(const std::string& text) {
  static const std::regex name(R"([a-z]+)");
  return {std::sregex_token_iterator(text.begin(), text.end(), name), std::sregex_token_iterator()};
}

/// What a cell of the table allows. It lists rooms, or names those that it leaves out of all, or of the rows above.
std::set<std::string> rooms_of_cell(const std::string& cell, const std::set<std::string>& all,
                                    const std::set<std::string>& above) {
  if (cell == "nothing of ours") return {};
  const bool of_all = cell.starts_with("all"), of_above = cell.starts_with("the rooms above");
  if (!of_all && !of_above) return names_in(cell);
  std::set<std::string> rooms = of_all ? all : above;
  const std::size_t but = cell.find(" but ");
  if (but != std::string::npos) {
    for (const std::string& room : names_in(cell.substr(but + 5))) rooms.erase(room);
  }
  return rooms;
}

Table documented_includes(const Root& root) {
  static const std::regex row(R"(^\| (`[a-z]+`(, `[a-z]+`)*) \| ([^|]*[^| ]) *\|$)");
  std::vector<std::pair<std::set<std::string>, std::string>> rows;
  std::set<std::string> all, above;
  for (const std::string& line : split_lines(read_file(root / "docs/architecture.md"))) {
    std::smatch match;
    if (!std::regex_match(line, match, row)) continue;
    rows.emplace_back(names_in(match[1]), match[3]);
    all.insert(rows.back().first.begin(), rows.back().first.end());
  }
  Table table;
  for (const auto& [rooms, cell] : rows) {
    for (const std::string& room : rooms) {
      table[room] = rooms_of_cell(cell, all, above);
      table[room].erase(room);
    }
    above.insert(rooms.begin(), rooms.end());
  }
  return table;
}

}  // namespace

std::vector<Violation> includes_that_differ(const Root& root) {
  const Table page = documented_includes(root);
  const Table& rules = allowed_includes();
  std::set<std::string> rooms;
  for (const Table* table : {&page, &rules}) {
    for (const auto& [room, unused] : *table) rooms.insert(room);
  }
  std::vector<Violation> violations;
  for (const std::string& room : rooms) {
    const auto shown = page.find(room), known = rules.find(room);
    if (shown != page.end() && known != rules.end() && shown->second == known->second) continue;
    violations.push_back({"docs/architecture.md", 0,
                          "tests/architecture/rules.cpp has another list for the room `" + room +
                              "`: " + (known == rules.end() ? "it has no such room" : joined(known->second))});
  }
  return violations;
}

std::vector<Violation> broken_references(const Root& root) {
  static const std::regex link(R"(\]\(([^)\s]+)(\s+"[^"]*")?\))");
  static const std::regex named_path(R"(`((include|src|tests|docs|cmake|tools|configs|examples|benches)/[^`\s]*|\.ci/[^`\s]*)`)");
  std::vector<Violation> violations;
  for (const fs::path& file : documents(root)) {
    int number = 0;
    for (const std::string& line : prose_lines(root / file)) {
      ++number;
      for (std::sregex_iterator match(line.begin(), line.end(), link), end; match != end; ++match) {
        const std::string target = (*match)[1];
        if (!leads_somewhere(root, file, target)) violations.push_back({file, number, "the link " + target + " leads nowhere"});
      }
      for (std::sregex_iterator match(line.begin(), line.end(), named_path), end; match != end; ++match) {
        const std::string target = (*match)[1];
        if (!is_placeholder(target) && !fs::exists(root / target)) {
          violations.push_back({file, number, "`" + target + "` does not exist"});
        }
      }
    }
  }
  return violations;
}

namespace {

/// Lines without the blanks around them and without empty ones: a snippet may be indented less than in its program.
std::string without_blanks(const std::string& text) {
  std::string joined;
  for (const std::string& line : split_lines(text)) {
    const std::size_t begin = line.find_first_not_of(' ');
    if (begin != std::string::npos) joined += line.substr(begin) + "\n";
  }
  return joined;
}

}  // namespace

std::vector<Violation> code_of_no_example(const Root& root) {
  std::string programs;
  for (const fs::path& file : files_below(root, "examples", {".cpp"})) programs += without_blanks(read_file(root / file));
  std::vector<Violation> violations;
  for (const fs::path& file : documents(root)) {
    const std::vector<std::string> lines = split_lines(read_file(root / file));
    for (std::size_t i = 0; i < lines.size(); ++i) {
      if (lines[i] != "```cpp") continue;
      std::string block;
      const int number = static_cast<int>(i) + 1;
      while (++i < lines.size() && lines[i] != "```") block += lines[i] + "\n";
      if (programs.find(without_blanks(block)) == std::string::npos) {
        violations.push_back({file, number, "this code stands in no program of examples/"});
      }
    }
  }
  return violations;
}

std::vector<Violation> unknown_config_keys(const Root& root) {
  // Sections by indentation, two blanks a level.
  std::set<std::string> known;
  std::vector<std::string> path;
  for (const std::string& line : split_lines(read_file(root / "configs/defaults.yaml"))) {
    static const std::regex entry(R"(^( *)([A-Z][A-Z0-9_]*):)");
    std::smatch match;
    if (!std::regex_search(line, match, entry)) continue;
    path.resize(static_cast<std::size_t>(match[1].length()) / 2);
    path.push_back(match[2]);
    std::string key;
    for (const std::string& part : path) key += (key.empty() ? "" : ".") + part;
    known.insert(key);
  }
  static const std::regex key(R"(\b[A-Z][A-Z0-9_]+(\.[A-Z][A-Z0-9_]+)+\b)");
  std::vector<Violation> violations;
  for (const fs::path& file : documents(root)) {
    if (file.filename() == "first_minutes.md") continue;  // a page of mistakes
    int number = 0;
    for (const std::string& line : split_lines(read_file(root / file))) {
      ++number;
      for (std::sregex_iterator match(line.begin(), line.end(), key), end; match != end; ++match) {
        if (!known.contains(match->str())) violations.push_back({file, number, "the config has no key " + match->str()});
      }
    }
  }
  return violations;
}

}  // namespace treadle::architecture

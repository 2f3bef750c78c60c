#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace treadle {

/// A fenced block of a Markdown text.
struct CodeBlock {
  int line = 0;          ///< of its first line of code, from 1
  std::string language;  ///< what stands behind the opening fence
  std::string code;
};

/// A row of a table whose first cell is code.
struct TableRow {
  int line = 0;
  std::vector<std::string> cells;  ///< without the backticks around a cell that is code as a whole; `\|` is a bar
};

namespace markdown_detail {

inline std::string trimmed(std::string text) {
  const std::size_t begin = text.find_first_not_of(' '), end = text.find_last_not_of(' ');
  return begin == std::string::npos ? std::string() : text.substr(begin, end - begin + 1);
}

inline std::string without_backticks(std::string cell) {
  const bool code = cell.size() >= 2 && cell.front() == '`' && cell.back() == '`';
  return code ? cell.substr(1, cell.size() - 2) : cell;
}

inline std::vector<std::string> cells_of(std::string_view line) {
  std::vector<std::string> cells;
  std::string cell;
  for (std::size_t i = 1; i < line.size(); ++i) {
    if (line[i] == '\\' && i + 1 < line.size() && line[i + 1] == '|') {
      cell += line[++i];
    } else if (line[i] == '|') {
      cells.push_back(without_backticks(trimmed(std::move(cell))));
      cell.clear();
    } else {
      cell += line[i];
    }
  }
  return cells;
}

inline std::vector<std::string_view> lines_of_text(std::string_view text) {
  std::vector<std::string_view> lines;
  while (!text.empty()) {
    const std::size_t end = text.find('\n');
    lines.push_back(text.substr(0, end));
    text.remove_prefix(end == std::string_view::npos ? text.size() : end + 1);
  }
  return lines;
}

}  // namespace markdown_detail

inline std::vector<CodeBlock> code_blocks(std::string_view markdown) {
  std::vector<CodeBlock> blocks;
  const auto lines = markdown_detail::lines_of_text(markdown);
  for (std::size_t i = 0; i < lines.size(); ++i) {
    if (!lines[i].starts_with("```")) continue;
    CodeBlock block{.line = static_cast<int>(i) + 2, .language = std::string(lines[i].substr(3)), .code = {}};
    while (++i < lines.size() && !lines[i].starts_with("```")) block.code.append(lines[i]).append("\n");
    blocks.push_back(std::move(block));
  }
  return blocks;
}

inline std::vector<TableRow> table_rows(std::string_view markdown) {
  std::vector<TableRow> rows;
  const auto lines = markdown_detail::lines_of_text(markdown);
  for (std::size_t i = 0; i < lines.size(); ++i) {
    if (lines[i].starts_with("| `")) rows.push_back({static_cast<int>(i) + 1, markdown_detail::cells_of(lines[i])});
  }
  return rows;
}

}  // namespace treadle

#include <treadle/base/errors.hpp>
#include <treadle/base/text.hpp>
#include <treadle/data/csv_dataset.hpp>

#include <ATen/ops/empty.h>
#include <fmt/format.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <cmath>
#include <fstream>
#include <set>
#include <string_view>

namespace treadle {

void validate(const CsvOptions& options) {
  if (options.file.empty()) throw ConfigError("CsvOptions.file must name a file", "CsvOptions.file");
  const char delimiter = options.delimiter;
  if (delimiter == '"' || delimiter == '\n' || delimiter == '\r' || delimiter == '.' || delimiter == '-' || delimiter == '+' ||
      (delimiter >= '0' && delimiter <= '9')) {
    throw ConfigError(fmt::format("CsvOptions.delimiter must be no part of a number, found {:?}", delimiter),
                      "CsvOptions.delimiter");
  }
  if (options.num_classes < 0) {
    throw ConfigError(fmt::format("CsvOptions.num_classes must be at least 0, found {}", options.num_classes),
                      "CsvOptions.num_classes");
  }
  if (options.num_classes > 0 && options.targets.size() != 1) {
    throw ConfigError(
        fmt::format("CsvOptions.targets must name one column when there are classes, found {}", options.targets.size()),
        "CsvOptions.targets");
  }
}

namespace {

std::string_view trimmed(std::string_view text) {
  const auto blank = [](char c) { return c == ' ' || c == '\t' || c == '\r'; };
  while (!text.empty() && blank(text.front())) text.remove_prefix(1);
  while (!text.empty() && blank(text.back())) text.remove_suffix(1);
  return text;
}

void split(std::string_view line, char delimiter, std::vector<std::string_view>& cells) {
  cells.clear();
  for (;;) {
    const std::size_t end = line.find(delimiter);
    std::string_view cell = trimmed(line.substr(0, end));
    if (cell.size() >= 2 && cell.front() == '"' && cell.back() == '"') cell = trimmed(cell.substr(1, cell.size() - 2));
    cells.push_back(cell);
    if (end == std::string_view::npos) return;
    line.remove_prefix(end + 1);
  }
}

/// A file read line by line into one row of numbers after the other.
class Table {
 public:
  explicit Table(const CsvOptions& options) : options_(options), file_(options.file, std::ios::binary) {
    if (!file_) throw IoError("open", options.file, errno != 0 ? errno : ENOENT);
    bool first = true;
    while (next_line()) {
      if (trimmed(line_).empty()) continue;
      if (first && number_ == 1 && line_.starts_with("\xef\xbb\xbf")) line_.erase(0, 3);
      split(line_, options.delimiter, cells_);
      if (first) name_columns();
      if (!first || !options.header) read_row();
      first = false;
    }
    if (file_.bad()) throw IoError("read", options.file, EIO);
    if (first || numbers.empty()) fail("the table has no sample");
  }

  std::vector<std::string> columns;
  std::vector<float> numbers;  // row after row

  [[noreturn]] void fail(const std::string& message, std::int64_t line = 0) const {
    throw FormatError::in_line(line > 0 ? line : std::max<std::int64_t>(number_, 1), message, options_.file);
  }
  /// Where row i stands in the file.
  std::int64_t line_of(std::size_t row) const { return lines_[row]; }

 private:
  bool next_line() {
    ++number_;
    if (std::getline(file_, line_)) return true;
    --number_;
    return false;
  }

  void name_columns() {
    for (std::size_t i = 0; i < cells_.size(); ++i)
      columns.push_back(options_.header ? std::string(cells_[i]) : std::to_string(i));
    std::set<std::string> seen;
    for (const std::string& column : columns) {
      if (!seen.insert(column).second) fail(fmt::format("two columns are called \"{}\"", column));
    }
  }

  void read_row() {
    if (cells_.size() != columns.size())
      fail(fmt::format("expected {} cells as in the first line, found {}", columns.size(), cells_.size()));
    for (std::size_t i = 0; i < cells_.size(); ++i) {
      std::string_view cell = cells_[i];
      if (cell.starts_with('+')) cell.remove_prefix(1);
      float number = 0;
      const auto [end, error] = std::from_chars(cell.data(), cell.data() + cell.size(), number);
      if (error != std::errc() || end != cell.data() + cell.size() || !std::isfinite(number))
        fail(fmt::format("column \"{}\": expected a finite number, found \"{}\"", columns[i], cells_[i]));
      numbers.push_back(number);
    }
    lines_.push_back(number_);
  }

  const CsvOptions& options_;
  std::ifstream file_;
  std::string line_;
  std::int64_t number_ = 0;
  std::vector<std::string_view> cells_;
  std::vector<std::int64_t> lines_;
};

std::size_t column_of(const Table& table, const std::string& name) {
  const auto found = std::find(table.columns.begin(), table.columns.end(), name);
  if (found != table.columns.end()) return static_cast<std::size_t>(found - table.columns.begin());
  throw ConfigError(fmt::format("CsvOptions.targets: there is no column \"{}\"{}; columns: {}", name,
                                did_you_mean(name, table.columns), quoted_list(table.columns)),
                    "CsvOptions.targets");
}

at::Tensor select(const Table& table, const std::vector<std::size_t>& columns) {
  const std::size_t width = table.columns.size(), rows = table.numbers.size() / width;
  at::Tensor tensor = at::empty({static_cast<std::int64_t>(rows), static_cast<std::int64_t>(columns.size())}, at::kFloat);
  auto* to = tensor.mutable_data_ptr<float>();
  for (std::size_t row = 0; row < rows; ++row) {
    for (std::size_t column : columns) *to++ = table.numbers[row * width + column];
  }
  return tensor;
}

at::Tensor classes(const Table& table, std::size_t column, std::int64_t count) {
  const std::size_t width = table.columns.size(), rows = table.numbers.size() / width;
  at::Tensor tensor = at::empty({static_cast<std::int64_t>(rows)}, at::kLong);
  auto* to = tensor.mutable_data_ptr<std::int64_t>();
  for (std::size_t row = 0; row < rows; ++row) {
    const float number = table.numbers[row * width + column];
    if (number != std::floor(number) || number < 0 || number >= static_cast<float>(count)) {
      table.fail(
          fmt::format("column \"{}\": expected a class, an integer in [0, {}), found {}", table.columns[column], count, number),
          table.line_of(row));
    }
    *to++ = static_cast<std::int64_t>(number);
  }
  return tensor;
}

Dict read(const CsvOptions& options, std::vector<std::string>& features) {
  validate(options);
  const Table table(options);
  std::vector<std::size_t> targets, others;
  for (const std::string& name : options.targets) targets.push_back(column_of(table, name));
  for (std::size_t i = 0; i < table.columns.size(); ++i) {
    if (std::find(targets.begin(), targets.end(), i) != targets.end()) continue;
    others.push_back(i);
    features.push_back(table.columns[i]);
  }
  if (others.empty()) throw ConfigError("CsvOptions.targets leaves no column of features", "CsvOptions.targets");
  Dict fields{{"x", select(table, others)}};
  if (options.num_classes > 0) {
    fields.set("label", classes(table, targets.front(), options.num_classes));
  } else if (!targets.empty()) {
    fields.set("y", select(table, targets));
  }
  return fields;
}

}  // namespace

CsvDataset::CsvDataset(const CsvOptions& options) : rows_(read(options, features_)) {}

Sample CsvDataset::get(std::int64_t index, Rng& rng) const {
  Sample sample = rows_.get(index, rng);
  if (const std::optional<std::int64_t> class_of_row = rows_.label(index)) sample.set("label", *class_of_row);
  return sample;
}

std::optional<Dict> CsvDataset::get_batch(std::span<const std::int64_t> indices, BatchMemory* memory) const {
  return rows_.get_batch(indices, memory);
}

}  // namespace treadle

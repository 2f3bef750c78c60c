#include <treadle/base/log.hpp>
#include <treadle/base/value_view.hpp>
#include <treadle/events/json_writer.hpp>

#include <fmt/format.h>

#include <algorithm>
#include <charconv>

#include "events/append_file.hpp"
#include "events/python_text.hpp"
#include "events/scalar_cursor.hpp"
#include "events/writer_options.hpp"

namespace treadle {
namespace {

constexpr std::int64_t kChunk = 1 << 16;
constexpr std::int64_t kNone = -1;

/// Appends the line with its newline.
void add_json(const ScalarLine& line, std::string& text) {
  const std::pair<std::string_view, double> iteration("iteration", 0);
  std::vector<const std::pair<std::string_view, double>*> sorted = {&iteration};
  sorted.reserve(line.scalars.size() + 1);
  for (const auto& scalar : line.scalars) {
    if (scalar.first != iteration.first) sorted.push_back(&scalar);
  }
  // Python sorts by code point, which for UTF-8 is the order of the bytes.
  std::sort(sorted.begin(), sorted.end(), [](const auto* a, const auto* b) { return a->first < b->first; });
  text += '{';
  for (const auto* scalar : sorted) {
    if (scalar != sorted.front()) text += ", ";
    add_python_json_string(scalar->first, text);
    text += ": ";
    if (scalar == &iteration) {
      text += std::to_string(line.iteration);
    } else {
      add_python_json_number(scalar->second, text);
    }
  }
  text += "}\n";
}

/// The iteration that a line of the file says, if any. A quote inside of a name is escaped, so that `"iteration"` is the key
/// alone.
std::optional<std::int64_t> iteration_of(std::string_view line) {
  constexpr std::string_view key = "\"iteration\": ";
  std::size_t at = line.find(key);
  while (at != std::string_view::npos && at > 0 && line[at - 1] == '\\') at = line.find(key, at + 1);
  if (at == std::string_view::npos) return std::nullopt;
  std::int64_t iteration = 0;
  const char* begin = line.data() + at + key.size();
  if (std::from_chars(begin, line.data() + line.size(), iteration).ec != std::errc()) return std::nullopt;
  return iteration;
}

/// Where the last whole line of the file ends.
std::int64_t end_of_lines(AppendFile& file) {
  for (std::int64_t end = file.size(); end > 0;) {
    const std::int64_t begin = std::max<std::int64_t>(0, end - kChunk);
    const std::size_t newline = file.read(begin, end - begin).rfind('\n');
    if (newline != std::string::npos) return begin + static_cast<std::int64_t>(newline) + 1;
    end = begin;
  }
  return 0;
}

/// Where the first line with an iteration above `last` begins; the end of the file when there is none.
std::int64_t begin_of_lines_after(AppendFile& file, std::int64_t last) {
  std::string text;
  std::int64_t offset = 0;  // of text
  for (std::int64_t read = 0; read < file.size(); read += kChunk) {
    text += file.read(read, kChunk);
    std::size_t begin = 0;
    for (std::size_t end; (end = text.find('\n', begin)) != std::string::npos; begin = end + 1) {
      const auto iteration = iteration_of(std::string_view(text).substr(begin, end - begin));
      if (iteration && *iteration > last) return offset + static_cast<std::int64_t>(begin);
    }
    text.erase(0, begin);
    offset += static_cast<std::int64_t>(begin);
  }
  return file.size();
}

}  // namespace

void validate(const JSONWriterOptions& options) {
  if (options.file.empty())
    throw ConfigError("JSONWriterOptions.file is empty; name the file to write", "JSONWriterOptions.file");
  check_window(options.window, "JSONWriterOptions.window");
  check_delay(options.max_delay, "JSONWriterOptions.max_delay");
}

struct JSONWriter::Impl {
  explicit Impl(JSONWriterOptions options)
      : file((validate(options), std::move(options.file)), options.max_delay),
        cursor(options.window, std::move(options.latest_only)) {}

  void cut_torn_line() {
    const std::int64_t end = end_of_lines(file);
    if (end < file.size()) file.truncate(end);
  }

  /// To `bytes`, where `line` ends; in a file that has no such line, to what was written up to `iteration`.
  void cut_back(std::int64_t bytes, const std::string& line, std::int64_t iteration) {
    file.reopen();
    std::int64_t end = bytes;
    const auto length = static_cast<std::int64_t>(line.size());
    if (file.size() < bytes || file.read(bytes - length, length) != line) {
      log_warning(
          fmt::format("\"{}\" is not the file that this run wrote before its checkpoint; keeping its lines up to iteration {}",
                      file.path().string(), iteration));
      end = begin_of_lines_after(file, iteration);
    }
    if (end < file.size()) file.truncate(end);
  }

  AppendFile file;
  ScalarCursor cursor;
  std::string last_line;                // of those this run wrote, with its newline
  std::int64_t last_iteration = kNone;  // the highest in those
};

JSONWriter::JSONWriter(JSONWriterOptions options) : impl_(std::make_unique<Impl>(std::move(options))) { impl_->cut_torn_line(); }
JSONWriter::~JSONWriter() = default;

void JSONWriter::write(EventStorage& storage) {
  const std::vector<ScalarLine> lines = impl_->cursor.pending(storage);
  if (lines.empty()) return;
  std::string text;
  text.reserve(lines.size() * 256);
  std::size_t last = 0;  // where the last line begins
  std::int64_t highest = impl_->last_iteration;
  for (const ScalarLine& line : lines) {
    last = text.size();
    add_json(line, text);
    highest = std::max(highest, line.iteration);
  }
  impl_->file.append(text);
  impl_->cursor.advance(storage);
  impl_->last_line.assign(text, last);
  impl_->last_iteration = highest;
}

void JSONWriter::close() { impl_->file.close(); }

Dict JSONWriter::state_dict() const {
  impl_->file.sync();
  return {{"bytes", impl_->file.size()},
          {"last_line", impl_->last_line},
          {"last_iteration", impl_->last_iteration},
          {"cursor", impl_->cursor.state_dict()}};
}

void JSONWriter::check_state_dict(const Dict& state) const {
  const ValueView view(state, "JSONWriter");
  const std::int64_t bytes = view["bytes"].as_int();
  if (bytes < 0 || bytes < static_cast<std::int64_t>(view["last_line"].as_string().size())) {
    view["bytes"].fail("expected a size of the file, at least that of its last line");
  }
  view["last_iteration"].as_int();
  impl_->cursor.check_state_dict(view["cursor"].as_dict());
}

void JSONWriter::load_state_dict(const Dict& state) {
  // The file comes first: where it cannot be cut back, the cursor goes on to tell what stands in it.
  impl_->cut_back(state.at("bytes").as_int(), state.at("last_line").as_string(), state.at("last_iteration").as_int());
  impl_->last_line = state.at("last_line").as_string();
  impl_->last_iteration = state.at("last_iteration").as_int();
  impl_->cursor.load_state_dict(state.at("cursor").as_dict());
}

}  // namespace treadle

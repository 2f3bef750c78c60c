#pragma once

#include <treadle/events/writer.hpp>

#include <chrono>
#include <filesystem>
#include <string>
#include <vector>

namespace treadle {

struct JSONWriterOptions {
  std::filesystem::path file{};  ///< appended to; its folder must exist
  std::int64_t window = 20;      ///< iterations over which smoothed scalars are reduced to their median, at least 1
  std::vector<std::string>
      latest_only{};  ///< unsmoothed scalars (full names) of which only the newest value at each write matters
  /// Lines may wait so long in memory for those behind them, so that a loop of short steps does not make a system call for each;
  /// then the next write takes them along. `close` and the taking of a state let none wait. At least 0.
  std::chrono::milliseconds max_delay{0};
};
/// Throws ConfigError when a field is out of range.
void validate(const JSONWriterOptions& options);

/// `metrics.json`: one JSON object a line with the key `iteration` and the scalars recorded for it, keys sorted, text and numbers
/// as Python's json.dumps writes them (ASCII; shortest decimal that reads back the same; NaN, Infinity). Threads as EventWriter.
///
/// Each write adds a line per iteration, ascending: smoothed scalars stand at their newest iteration with the median of the
/// window (once), of unsmoothed ones every value stands at its own iteration; two values for one iteration take two lines.
///
/// On resume the file is cut back to what had been written when the state was taken. Where the file is not the one of that time,
/// lines past the last iteration written then are cut instead, and a warning says so. A line torn by a crash is cut in any case.
class JSONWriter final : public EventWriter {
 public:
  /// Opens the file. Throws ConfigError (see validate), IoError.
  explicit JSONWriter(JSONWriterOptions options);
  ~JSONWriter() override;

  /// The lines of one call reach the file together or, on IoError, not at all; the next call writes them then.
  void write(EventStorage& storage) override;
  void close() override;

  /// `bytes`, `last_line`, `last_iteration`, `cursor`. Taking it asks the operating system to store the file (fdatasync), so that
  /// a checkpoint never knows of lines that a power failure loses.
  Dict state_dict() const override;
  void check_state_dict(const Dict& state) const override;
  /// Cuts the file back. Throws IoError.
  void load_state_dict(const Dict& state) override;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace treadle

#pragma once

#include <chrono>
#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <string_view>

namespace treadle {

/// A file that only grows, or is cut back. What needs the file opens it again when it was closed. Failures throw IoError.
class AppendFile {
 public:
  using Milliseconds = std::chrono::milliseconds;

  /// Opens `path` for appending and makes it when absent. What is appended reaches the operating system before `append` returns;
  /// or, with a `max_delay`, together with what comes in so long a time, at the first call of any method behind it.
  explicit AppendFile(std::filesystem::path path, Milliseconds max_delay = Milliseconds(0));
  ~AppendFile();
  AppendFile(const AppendFile&) = delete;
  AppendFile& operator=(const AppendFile&) = delete;

  const std::filesystem::path& path() const noexcept { return path_; }
  /// With what still waits.
  std::int64_t size() const noexcept { return size_ + static_cast<std::int64_t>(waiting_.size()); }
  /// Opens the file when it was closed; its size is then the one it has by now.
  void reopen();
  /// Adds `data` whole, or nothing.
  void append(std::string_view data);
  /// Hands what waits to the operating system; it goes on waiting where that fails.
  void flush();
  void truncate(std::int64_t size);
  /// Up to `length` bytes from `offset` on.
  std::string read(std::int64_t offset, std::int64_t length);
  /// Flushes and asks for the data to be stored on the device; a refusal is passed over.
  void sync() noexcept;
  /// Flushes and syncs first; where the flush fails the file stays open.
  void close();

 private:
  void open();
  void release() noexcept;

  std::filesystem::path path_;
  Milliseconds max_delay_;
  int descriptor_ = -1;
  std::int64_t size_ = 0;  // of what the operating system has
  std::string waiting_;
  std::optional<std::chrono::steady_clock::time_point> flushed_;  // not yet: no time, since the clock may have begun just now
};

}  // namespace treadle

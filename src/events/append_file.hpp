#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <string_view>

namespace treadle {

/// A file that only grows, or is cut back. Every write reaches the operating system before the call returns. What needs the file
/// opens it again when it was closed. Failures throw IoError.
class AppendFile {
 public:
  AppendFile() = default;
  /// Opens `path` for appending and makes it when absent.
  explicit AppendFile(std::filesystem::path path);
  ~AppendFile() { close(); }
  AppendFile(const AppendFile&) = delete;
  AppendFile& operator=(const AppendFile&) = delete;

  const std::filesystem::path& path() const noexcept { return path_; }
  std::int64_t size() const noexcept { return size_; }
  /// Opens the file when it was closed; its size is then the one it has by now.
  void reopen();
  /// Adds `data` whole, or nothing.
  void append(std::string_view data);
  void truncate(std::int64_t size);
  /// Up to `length` bytes from `offset` on.
  std::string read(std::int64_t offset, std::int64_t length);
  /// Asks for the data to be stored on the device; a refusal is passed over.
  void sync() const noexcept;
  void close() noexcept;

 private:
  void open();

  std::filesystem::path path_;
  int descriptor_ = -1;
  std::int64_t size_ = 0;
};

}  // namespace treadle

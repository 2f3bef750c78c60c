#pragma once

#include <treadle/base/errors.hpp>
#include <treadle/checkpoint/file_system.hpp>

#include <cstdint>
#include <cstring>
#include <filesystem>
#include <string>
#include <string_view>

namespace treadle {

/// Bytes of a file from some position on, read as far as they are asked for: a pickle says only at its end how long it is.
/// Offsets count from the start of the source; errors name the offset in the file.
class ByteSource {
 public:
  /// At most `limit` bytes from `file_offset` on belong to the source.
  ByteSource(const ReadableFile& file, std::filesystem::path path, std::uint64_t file_offset, std::uint64_t limit)
      : file_(&file), path_(std::move(path)), file_offset_(file_offset), limit_(limit) {}

  /// The `count` bytes at `offset`; the view is valid until the next call. Throws FormatError when the source ends before.
  std::string_view bytes(std::uint64_t offset, std::uint64_t count) {
    if (offset > limit_ || count > limit_ - offset) {
      fail("the data ends here, but " + std::to_string(count) + " more bytes were announced", offset);
    }
    fill(offset + count);
    return std::string_view(buffer_).substr(offset, count);
  }
  /// What has been read so far.
  std::string_view read_so_far() const noexcept { return buffer_; }
  std::uint64_t limit() const noexcept { return limit_; }
  std::uint64_t file_offset() const noexcept { return file_offset_; }
  const std::filesystem::path& path() const noexcept { return path_; }
  [[noreturn]] void fail(const std::string& message, std::uint64_t offset) const {
    throw FormatError(message, path_, file_offset_ + offset);
  }

 private:
  void fill(std::uint64_t end) {
    if (end <= buffer_.size()) return;
    // Reading ahead in growing steps keeps both the number of reads and the waste small.
    std::uint64_t wanted = std::min(limit_, std::max<std::uint64_t>(end, buffer_.size() * 2 + (64 << 10)));
    std::size_t have = buffer_.size();
    buffer_.resize(wanted);
    file_->read(file_offset_ + have, std::as_writable_bytes(std::span(buffer_)).subspan(have));
  }

  const ReadableFile* file_;
  std::filesystem::path path_;
  std::uint64_t file_offset_;
  std::uint64_t limit_;
  std::string buffer_;
};

/// A little-endian (or, for floats of a pickle, big-endian) number at the start of `bytes`, which must be long enough.
template <class T>
T read_little(std::string_view bytes) noexcept {
  T value;
  std::memcpy(&value, bytes.data(), sizeof value);
  return value;
}

}  // namespace treadle

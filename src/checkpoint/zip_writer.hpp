#pragma once

#include <treadle/checkpoint/file_system.hpp>

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace treadle {

/// Writes a zip archive of stored records as `torch.save` does: contents start at multiples of 64 bytes, checksums follow the
/// content, sizes beyond 4 GiB take the 64 bit form. Borrows the file, which is written from its beginning to its end.
class ZipWriter {
 public:
  explicit ZipWriter(WritableFile& file);

  void add(std::string_view name, std::span<const std::byte> content);
  void add(std::string_view name, std::string_view content) { add(name, std::as_bytes(std::span(content))); }
  /// Writes the directory. Nothing may be added afterwards.
  void finish();
  /// A number made of the names and checksums so far.
  std::string fingerprint() const;

 private:
  struct Entry {
    std::string name;
    std::uint32_t crc;
    std::uint64_t size;
    std::uint64_t header;
  };
  void put(std::string_view bytes);
  void put_content(std::span<const std::byte> content);
  void flush();
  void write_central(const Entry& entry);

  WritableFile& file_;
  std::string buffer_;
  std::uint64_t offset_ = 0;
  std::vector<Entry> entries_;
};

}  // namespace treadle

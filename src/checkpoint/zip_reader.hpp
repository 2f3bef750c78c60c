#pragma once

#include <treadle/checkpoint/file_system.hpp>

#include <cstdint>
#include <filesystem>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

namespace treadle {

/// One stored file of an archive.
struct ZipRecord {
  std::string name;
  std::uint32_t crc = 0;
  std::uint64_t size = 0;
  std::uint64_t header = 0;  // offset of the local header
};

/// The directory of a zip archive whose entries are stored, as `torch.save` writes it. Refuses compressed and encrypted entries,
/// entries that overlap, and two of one name. Borrows the file. Throws FormatError.
class ZipReader {
 public:
  ZipReader(const ReadableFile& file, std::filesystem::path path);

  const std::vector<ZipRecord>& records() const noexcept { return records_; }
  /// About the most heap that reading the directory took, in bytes: at most 384 KiB and 24 for each byte of the pickle.
  std::uint64_t heap() const noexcept { return heap_; }
  /// The record `name`, or nullptr.
  const ZipRecord* find(std::string_view name) const;
  /// Where the content of `record` starts in the file.
  std::uint64_t content_offset(const ZipRecord& record) const;
  /// Reads the content of `record` into `out`, which is as long. With `verify` compares the checksum.
  void read(const ZipRecord& record, std::span<std::byte> out, bool verify) const;
  /// Throws FormatError when `content` does not have the checksum of `record`.
  void verify(const ZipRecord& record, std::string_view content) const;

 private:
  struct Directory {
    std::uint64_t offset;
    std::uint64_t size;
    std::uint64_t count;
  };
  std::string bytes(std::uint64_t offset, std::uint64_t count) const;
  Directory find_directory();
  Directory read_end64(std::uint64_t end_offset) const;
  void read_directory(const Directory& directory);
  void check_directory_size(const Directory& directory) const;
  ZipRecord read_entry(const std::string& data, std::uint64_t& at, std::uint64_t file_offset) const;
  void read_extra64(std::string_view extra, ZipRecord& record, std::uint64_t position) const;
  void check_overlap() const;
  void check_crc(const ZipRecord& record, std::uint32_t crc) const;
  [[noreturn]] void fail(const std::string& message, std::uint64_t offset) const;

  const ReadableFile& file_;
  std::filesystem::path path_;
  std::uint64_t directory_offset_ = 0;
  std::vector<ZipRecord> records_;
  std::unordered_map<std::string_view, std::size_t> by_name_;  // of the names in records_
  std::uint64_t heap_ = 0;
};

}  // namespace treadle

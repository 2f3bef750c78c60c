#include "checkpoint/zip_reader.hpp"

#include "checkpoint/byte_source.hpp"
#include "checkpoint/crc32.hpp"
#include "checkpoint/zip_format.hpp"

#include <fmt/format.h>

#include <algorithm>

namespace treadle {

namespace {

// Small enough to stay in the cache between reading and checking.
constexpr std::uint64_t kChunk = 256 << 10;

constexpr std::uint32_t kIn64 = 0xffffffff;

// The directory is read into memory, and so must be in proportion to the pickle that refers to its entries: an entry takes about
// 70 bytes, what refers to it no less. The heap taken is that of the text, and of a record and an index for each entry.
constexpr std::uint64_t kFreeDirectory = 64 << 10;
constexpr std::uint64_t kDirectoryPerPickleByte = 4;
constexpr std::uint64_t kHeapPerDirectoryByte = 6;

/// A name for messages: a file may give one of 64 KiB.
std::string shown(std::string_view name) {
  constexpr std::size_t kMost = 100;
  return name.size() <= kMost ? std::string(name) : std::string(name.substr(0, kMost)) + "…";
}

template <class T>
T field(std::string_view data, std::size_t at) {
  return read_little<T>(data.substr(at));
}

}  // namespace

ZipReader::ZipReader(const ReadableFile& file, std::filesystem::path path) : file_(file), path_(std::move(path)) {
  read_directory(find_directory());
  check_overlap();
}

const ZipRecord* ZipReader::find(std::string_view name) const {
  auto found = by_name_.find(name);
  return found == by_name_.end() ? nullptr : &records_[found->second];
}

std::string ZipReader::bytes(std::uint64_t offset, std::uint64_t count) const {
  if (offset > file_.size() || count > file_.size() - offset) {
    fail(fmt::format("the file ends here, but {} more bytes were announced", count), std::min(offset, file_.size()));
  }
  std::string data(count, '\0');
  file_.read(offset, std::as_writable_bytes(std::span(data)));
  return data;
}

ZipReader::Directory ZipReader::find_directory() {
  std::uint64_t size = file_.size();
  constexpr std::uint64_t kMaxComment = 0xffff;
  std::uint64_t tail_size = std::min(size, zip::kEndSize + kMaxComment);
  std::string tail = bytes(size - tail_size, tail_size);
  for (std::size_t at = tail.size() < zip::kEndSize ? 0 : tail.size() - zip::kEndSize + 1; at-- > 0;) {
    std::string_view end = std::string_view(tail).substr(at);
    if (field<std::uint32_t>(end, 0) != zip::kEnd || field<std::uint16_t>(end, 20) != end.size() - zip::kEndSize) continue;
    std::uint64_t end_offset = size - tail_size + at;
    if (field<std::uint16_t>(end, 4) != 0 || field<std::uint16_t>(end, 6) != 0) fail("an archive of several parts", end_offset);
    Directory directory{
        .offset = field<std::uint32_t>(end, 16), .size = field<std::uint32_t>(end, 12), .count = field<std::uint16_t>(end, 10)};
    bool large = directory.offset == kIn64 || directory.size == kIn64 || directory.count == 0xffff;
    if (large) directory = read_end64(end_offset);
    if (directory.offset > end_offset || directory.size > end_offset - directory.offset) {
      fail("the directory of the archive lies outside of the file", end_offset);
    }
    return directory;
  }
  fail("the zip archive has no end; the file is torn or was not fully copied", size);
}

ZipReader::Directory ZipReader::read_end64(std::uint64_t end_offset) const {
  if (end_offset < zip::kEnd64LocatorSize) fail("the archive lacks its 64 bit directory", end_offset);
  std::string locator = bytes(end_offset - zip::kEnd64LocatorSize, zip::kEnd64LocatorSize);
  if (field<std::uint32_t>(locator, 0) != zip::kEnd64Locator) fail("the archive lacks its 64 bit directory", end_offset);
  auto offset = field<std::uint64_t>(locator, 8);
  std::string end = bytes(offset, zip::kEnd64Size);
  if (field<std::uint32_t>(end, 0) != zip::kEnd64) fail("the 64 bit end of the archive should stand here", offset);
  return {.offset = field<std::uint64_t>(end, 48), .size = field<std::uint64_t>(end, 40), .count = field<std::uint64_t>(end, 32)};
}

void ZipReader::read_directory(const Directory& directory) {
  if (directory.count > directory.size / zip::kCentralSize)
    fail("the directory of the archive is shorter than its entries", directory.offset);
  check_directory_size(directory);
  heap_ = kHeapPerDirectoryByte * directory.size;
  directory_offset_ = directory.offset;
  std::string data = bytes(directory.offset, directory.size);
  records_.reserve(directory.count);
  std::uint64_t at = 0;
  for (std::uint64_t i = 0; i < directory.count; ++i) {
    std::uint64_t position = directory.offset + at;
    records_.push_back(read_entry(data, at, directory.offset));
    if (!by_name_.emplace(records_.back().name, i).second) {
      fail(fmt::format("two records are named \"{}\"", shown(records_.back().name)), position);
    }
  }
  if (at != data.size()) fail("the directory of the archive holds more entries than it says", directory.offset + at);
}

// Looks for the pickle entry by entry, because the directory may be too large to be read before its size is known.
void ZipReader::check_directory_size(const Directory& directory) const {
  if (directory.size <= kFreeDirectory) return;
  constexpr std::string_view kPickle = "data.pkl";
  std::uint64_t pickle = 0;
  std::uint64_t at = directory.offset;
  const std::uint64_t end = directory.offset + directory.size;
  for (std::uint64_t i = 0; i < directory.count && end - at >= zip::kCentralSize; ++i) {
    const std::string entry = bytes(at, zip::kCentralSize);
    const std::uint64_t name = field<std::uint16_t>(entry, 28);
    const std::uint64_t rest = name + field<std::uint16_t>(entry, 30) + field<std::uint16_t>(entry, 32);
    if (rest > end - at - zip::kCentralSize) break;
    if (name >= kPickle.size() && bytes(at + zip::kCentralSize + name - kPickle.size(), kPickle.size()) == kPickle) {
      pickle = std::max<std::uint64_t>(pickle, field<std::uint32_t>(entry, 24));
    }
    at += zip::kCentralSize + rest;
  }
  pickle = std::min(pickle, file_.size());
  if (directory.size > kFreeDirectory + kDirectoryPerPickleByte * pickle) {
    fail(fmt::format("the directory of the archive has {} bytes, far more than a pickle of {} bytes accounts for", directory.size,
                     pickle),
         directory.offset);
  }
}

ZipRecord ZipReader::read_entry(const std::string& data, std::uint64_t& at, std::uint64_t file_offset) const {
  std::uint64_t position = file_offset + at;
  std::string_view entry = std::string_view(data).substr(at);
  if (entry.size() < zip::kCentralSize || field<std::uint32_t>(entry, 0) != zip::kCentralHeader) {
    fail("an entry of the archive's directory should stand here", position);
  }
  auto flags = field<std::uint16_t>(entry, 8);
  auto method = field<std::uint16_t>(entry, 10);
  std::uint64_t name = field<std::uint16_t>(entry, 28), extra = field<std::uint16_t>(entry, 30),
                comment = field<std::uint16_t>(entry, 32);
  if (entry.size() - zip::kCentralSize < name + extra + comment) fail("an entry of the archive's directory is cut off", position);
  if (flags & zip::kEncrypted) fail("an encrypted record", position);
  if (method != 0) {
    const bool script = entry.substr(zip::kCentralSize, name).find("/code/") != std::string_view::npos;
    fail(script ? std::string("this is a TorchScript file, a program and no checkpoint; ScriptedModel trains it")
                : fmt::format("a compressed record (method {}); checkpoints are stored as they are", method),
         position);
  }
  ZipRecord record{.name = std::string(entry.substr(zip::kCentralSize, name)),
                   .crc = field<std::uint32_t>(entry, 16),
                   .size = field<std::uint32_t>(entry, 24),
                   .header = field<std::uint32_t>(entry, 42)};
  std::uint32_t compressed = field<std::uint32_t>(entry, 20);
  if (compressed != static_cast<std::uint32_t>(record.size)) fail("a stored record is given two sizes", position);
  read_extra64(entry.substr(zip::kCentralSize + name, extra), record, position);
  if (record.header > directory_offset_ || directory_offset_ - record.header < zip::kLocalSize + name ||
      record.size > directory_offset_ - record.header - zip::kLocalSize - name) {
    fail(fmt::format("record \"{}\" lies outside of the file", shown(record.name)), position);
  }
  at += zip::kCentralSize + name + extra + comment;
  return record;
}

void ZipReader::read_extra64(std::string_view extra, ZipRecord& record, std::uint64_t position) const {
  bool size64 = record.size == kIn64;
  bool header64 = record.header == kIn64;
  while (extra.size() >= 4 && (size64 || header64)) {
    auto tag = field<std::uint16_t>(extra, 0);
    std::uint64_t length = field<std::uint16_t>(extra, 2);
    if (length > extra.size() - 4) break;
    std::string_view content = extra.substr(4, length);
    extra.remove_prefix(4 + length);
    if (tag != zip::kExtra64) continue;
    // Both sizes of a stored record, then its offset, each only where the 32 bit field is full.
    std::size_t needed = (size64 ? 16 : 0) + (header64 ? 8 : 0);
    if (content.size() < needed) break;
    if (size64) {
      record.size = field<std::uint64_t>(content, 0);
      if (record.size != field<std::uint64_t>(content, 8)) fail("a stored record is given two sizes", position);
    }
    if (header64) record.header = field<std::uint64_t>(content, size64 ? 16 : 0);
    return;
  }
  if (size64 || header64) fail("a record lacks its 64 bit sizes", position);
}

void ZipReader::check_overlap() const {
  std::vector<const ZipRecord*> sorted;
  for (const ZipRecord& record : records_) sorted.push_back(&record);
  std::sort(sorted.begin(), sorted.end(), [](auto* a, auto* b) { return a->header < b->header; });
  for (std::size_t i = 0; i < sorted.size(); ++i) {
    std::uint64_t end = i + 1 < sorted.size() ? sorted[i + 1]->header : directory_offset_;
    std::uint64_t start = content_offset(*sorted[i]);
    if (start > end || sorted[i]->size > end - start)
      fail(fmt::format("record \"{}\" overlaps the next one", shown(sorted[i]->name)), start);
  }
}

std::uint64_t ZipReader::content_offset(const ZipRecord& record) const {
  std::string header = bytes(record.header, zip::kLocalSize + record.name.size());
  if (field<std::uint32_t>(header, 0) != zip::kLocalHeader) fail("the header of a record should stand here", record.header);
  if (field<std::uint16_t>(header, 8) != 0) fail("a compressed record", record.header);
  if (field<std::uint16_t>(header, 26) != record.name.size() || header.substr(zip::kLocalSize) != record.name) {
    fail(fmt::format("the header of record \"{}\" has another name", shown(record.name)), record.header);
  }
  return record.header + header.size() + field<std::uint16_t>(header, 28);
}

void ZipReader::read(const ZipRecord& record, std::span<std::byte> out, bool verify) const {
  std::uint64_t offset = content_offset(record);
  std::uint32_t crc = 0;
  for (std::uint64_t done = 0; done < out.size();) {
    auto chunk = out.subspan(done, verify ? std::min<std::uint64_t>(kChunk, out.size() - done) : out.size());
    file_.read(offset + done, chunk);
    if (verify) crc = crc32(crc, chunk);
    done += chunk.size();
  }
  if (verify) check_crc(record, crc);
}

void ZipReader::verify(const ZipRecord& record, std::string_view content) const {
  check_crc(record, crc32(0, std::as_bytes(std::span(content))));
}

void ZipReader::check_crc(const ZipRecord& record, std::uint32_t crc) const {
  if (crc == record.crc) return;
  fail(fmt::format("record \"{}\" is damaged: its checksum is {:08x}, but {:08x} was written", shown(record.name), crc,
                   record.crc),
       record.header);
}

void ZipReader::fail(const std::string& message, std::uint64_t offset) const { throw FormatError(message, path_, offset); }

}  // namespace treadle

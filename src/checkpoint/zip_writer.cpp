#include "checkpoint/zip_writer.hpp"

#include "checkpoint/crc32.hpp"
#include "checkpoint/zip_format.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <initializer_list>

namespace treadle {

namespace {

constexpr std::uint64_t kAlignment = 64;
constexpr std::uint32_t kIn64 = 0xffffffff;
constexpr std::size_t kBuffer = 256 << 10;

/// Builds a header from little-endian numbers.
class Header {
 public:
  Header& u16(std::uint64_t value) { return number(value, 2); }
  Header& u32(std::uint64_t value) { return number(value, 4); }
  Header& u64(std::uint64_t value) { return number(value, 8); }
  Header& text(std::string_view value) {
    bytes_.append(value);
    return *this;
  }
  const std::string& bytes() const noexcept { return bytes_; }

 private:
  Header& number(std::uint64_t value, int width) {
    for (int i = 0; i < width; ++i) bytes_.push_back(static_cast<char>(value >> (8 * i)));
    return *this;
  }
  std::string bytes_;
};

std::uint64_t narrowed(std::uint64_t value) { return std::min<std::uint64_t>(value, kIn64); }

}  // namespace

ZipWriter::ZipWriter(WritableFile& file) : file_(file) { buffer_.reserve(kBuffer); }

void ZipWriter::add(std::string_view name, std::span<const std::byte> content) {
  bool large = content.size() >= kIn64;
  Header extra;
  if (large) extra.u16(zip::kExtra64).u16(16).u64(content.size()).u64(content.size());
  // A field that no reader knows fills up to the alignment, as torch does: "FB", its length, and Zs.
  std::uint64_t unpadded = offset_ + zip::kLocalSize + name.size() + extra.bytes().size() + 4;
  std::uint64_t padding = (kAlignment - unpadded % kAlignment) % kAlignment;
  extra.text("FB").u16(padding).text(std::string(padding, 'Z'));

  Entry entry{.name = std::string(name), .crc = 0, .size = content.size(), .header = offset_};
  Header header;
  header.u32(zip::kLocalHeader).u16(0).u16(zip::kHasDescriptor | zip::kUtf8Name).u16(0).u32(0).u32(0);
  header.u32(large ? kIn64 : 0).u32(large ? kIn64 : 0).u16(name.size()).u16(extra.bytes().size()).text(name).text(extra.bytes());
  put(header.bytes());
  for (std::uint64_t done = 0; done < content.size();) {
    auto chunk = content.subspan(done, std::min<std::uint64_t>(kBuffer, content.size() - done));
    entry.crc = crc32(entry.crc, chunk);
    put_content(chunk);
    done += chunk.size();
  }
  Header descriptor;
  descriptor.u32(zip::kDataDescriptor).u32(entry.crc);
  large ? descriptor.u64(entry.size).u64(entry.size) : descriptor.u32(entry.size).u32(entry.size);
  put(descriptor.bytes());
  entries_.push_back(std::move(entry));
}

void ZipWriter::finish() {
  std::uint64_t start = offset_;
  for (const Entry& entry : entries_) write_central(entry);
  std::uint64_t size = offset_ - start;
  std::uint64_t end64 = offset_;
  std::uint64_t count = entries_.size();
  Header end;
  end.u32(zip::kEnd64).u64(zip::kEnd64Size - 12).u16(0x31e).u16(45).u32(0).u32(0).u64(count).u64(count).u64(size).u64(start);
  end.u32(zip::kEnd64Locator).u32(0).u64(end64).u32(1);
  std::uint64_t small_count = std::min<std::uint64_t>(count, 0xffff);
  end.u32(zip::kEnd).u16(0).u16(0).u16(small_count).u16(small_count).u32(narrowed(size)).u32(narrowed(start)).u16(0);
  put(end.bytes());
  flush();
}

void ZipWriter::write_central(const Entry& entry) {
  Header extra;
  bool large = entry.size >= kIn64;
  bool far = entry.header >= kIn64;
  if (large || far) {
    extra.u16(zip::kExtra64).u16((large ? 16 : 0) + (far ? 8 : 0));
    if (large) extra.u64(entry.size).u64(entry.size);
    if (far) extra.u64(entry.header);
  }
  Header header;
  header.u32(zip::kCentralHeader).u16(0).u16(0).u16(zip::kHasDescriptor | zip::kUtf8Name).u16(0).u32(0).u32(entry.crc);
  header.u32(narrowed(entry.size))
      .u32(narrowed(entry.size))
      .u16(entry.name.size())
      .u16(extra.bytes().size())
      .u16(0)
      .u16(0)
      .u16(0)
      .u32(0);
  header.u32(narrowed(entry.header)).text(entry.name).text(extra.bytes());
  put(header.bytes());
}

std::string ZipWriter::fingerprint() const {
  std::uint64_t names = 0, sums = 0;
  for (const Entry& entry : entries_) {
    names = names * 1099511628211u + crc32(0, std::as_bytes(std::span(entry.name)));
    sums = sums * 1099511628211u + entry.crc;
  }
  return fmt::format("{:020}{:020}", names, sums);
}

void ZipWriter::put(std::string_view bytes) { put_content(std::as_bytes(std::span(bytes))); }

void ZipWriter::put_content(std::span<const std::byte> content) {
  offset_ += content.size();
  bool direct = content.size() >= kBuffer / 2;
  if (direct || buffer_.size() + content.size() > kBuffer) flush();
  if (direct) {
    file_.write(content);
  } else {
    buffer_.append(reinterpret_cast<const char*>(content.data()), content.size());
  }
}

void ZipWriter::flush() {
  if (!buffer_.empty()) file_.write(std::as_bytes(std::span(buffer_)));
  buffer_.clear();
}

}  // namespace treadle

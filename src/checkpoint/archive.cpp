#include "checkpoint/archive.hpp"

#include "checkpoint/dtype_names.hpp"
#include "checkpoint/unpickler.hpp"

#include <treadle/base/errors.hpp>

#include <c10/core/CPUAllocator.h>
#include <fmt/format.h>
#include <sys/mman.h>

#include <charconv>

namespace treadle {

namespace {

// The newest layout of the archive that torch 2.13 knows (kMaxSupportedFileFormatVersion in caffe2/serialize/versions.h).
constexpr int kNewestVersion = 10;
// What the vector instructions of LibTorch's kernels are promised at least by its own allocator is 64; they work with this.
constexpr std::uint64_t kMappedAlignment = 16;

}  // namespace

c10::Storage allocate_storage(std::uint64_t nbytes) {
  c10::Storage storage(c10::Storage::use_byte_size_t{}, nbytes, c10::GetCPUAllocator(), /*resizable=*/true);
  // Fresh memory is handed out page by page: 512 times fewer of them are a third of the time of reading a large file.
  constexpr std::uintptr_t kHugePage = 2 << 20;
  if (nbytes >= 2 * kHugePage) {
    auto* begin = static_cast<std::byte*>(storage.mutable_data());
    const std::uintptr_t before_page = (kHugePage - reinterpret_cast<std::uintptr_t>(begin) % kHugePage) % kHugePage;
    const std::uintptr_t whole_pages = (nbytes - before_page) / kHugePage * kHugePage;
    ::madvise(begin + before_page, whole_pages, MADV_HUGEPAGE);  // advice: a refusal changes nothing
  }
  return storage;
}

std::span<std::byte> bytes_of(c10::Storage& storage) {
  return {static_cast<std::byte*>(storage.mutable_data()), storage.nbytes()};
}

Archive::Archive(const ReadableFile& file, const std::filesystem::path& path, const LoadOptions& options)
    : path_(path), verify_(options.verify), zip_(file, path) {
  if (zip_.records().empty()) throw FormatError("an empty zip archive", path, 0);
  const std::string& first = zip_.records().front().name;
  prefix_ = first.substr(0, first.find('/') + 1);
  const ZipRecord* pickle = zip_.find(prefix_ + "data.pkl");
  if (!pickle) {
    throw FormatError(fmt::format("the archive has no record \"{}data.pkl\": a zip file, but no checkpoint", prefix_), path, 0);
  }
  if (pickle->size > options.max_pickle_bytes) {
    throw FormatError(fmt::format("a pickle of {} bytes; max_pickle_bytes is {}", pickle->size, options.max_pickle_bytes), path,
                      pickle->header);
  }
  check_version();
  swapped_ = is_big_endian();
  source_ = std::make_unique<ByteSource>(file, path, zip_.content_offset(*pickle), pickle->size);
  if (verify_) zip_.verify(*pickle, source_->bytes(0, pickle->size));
  graph_ = std::make_unique<PickleGraph>(make_graph(*pickle));
  root_ = Unpickler(*source_, *graph_, 0, {.unknown = options.unknown}).load();
}

/// What is left of the heap for the objects of the pickle when the directory, the pickle itself and its copies are in memory.
PickleGraph Archive::make_graph(const ZipRecord& pickle) const {
  const std::uint64_t all = kHeap + kHeapPerPickleByte * pickle.size;
  const std::uint64_t taken = kReservedHeap + zip_.heap() + 3 * pickle.size;
  if (taken > all)
    throw FormatError("the directory of the archive is far larger than the pickle accounts for", path_, pickle.header);
  return PickleGraph(all - taken);
}

/// At most 16 bytes of a record.
std::string Archive::small_record(const ZipRecord& record) const {
  std::string text(std::min<std::uint64_t>(record.size, 16), '\0');
  if (record.size <= 16) zip_.read(record, std::as_writable_bytes(std::span(text)), verify_);
  return text;
}

bool Archive::is_big_endian() const {
  const ZipRecord* record = zip_.find(prefix_ + "byteorder");
  if (!record) return false;
  const std::string order = small_record(*record);
  if (order != "little" && order != "big") throw FormatError("the byte order is neither little nor big", path_, record->header);
  return order == "big";
}

void Archive::check_version() const {
  const ZipRecord* record = zip_.find(prefix_ + "version");
  if (!record) return;
  const std::string text = small_record(*record);
  int version = 0;
  auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), version);
  bool clean = error == std::errc() &&
               text.substr(static_cast<std::size_t>(end - text.data())).find_first_not_of("\r\n ") == std::string::npos;
  if (!clean || version < 1) throw FormatError("the version of the archive is no number", path_, record->header);
  if (version > kNewestVersion) {
    throw FormatError(fmt::format("version {} of the archive; {} is the newest known", version, kNewestVersion), path_,
                      record->header);
  }
}

c10::Storage Archive::read(std::uint32_t number) {
  const StorageSpec& spec = graph_->storages[number];
  const ZipRecord* record = zip_.find(prefix_ + "data/" + spec.key);
  if (!record) source_->fail(fmt::format("storage \"{}\" is missing in the archive", spec.key), spec.position);
  if (record->size != spec.nbytes) {
    source_->fail(fmt::format("storage \"{}\" should have {} bytes, its record has {}", spec.key, spec.nbytes, record->size),
                  spec.position);
  }
  if (mapping_ && !swapped_ && spec.nbytes > 0) {
    const std::uint64_t offset = zip_.content_offset(*record);
    if (offset % kMappedAlignment == 0) return mapped(*record, offset);
  }
  c10::Storage storage = allocate_storage(spec.nbytes);
  if (spec.nbytes > 0) zip_.read(*record, bytes_of(storage), verify_);
  if (swapped_) reverse_bytes(storage.mutable_data(), spec.nbytes, swap_unit(spec.dtype));
  return storage;
}

c10::Storage Archive::mapped(const ZipRecord& record, std::uint64_t offset) const {
  std::byte* content = mapping_.get() + offset;
  if (verify_) zip_.verify(record, {reinterpret_cast<const char*>(content), record.size});
  using Owner = std::shared_ptr<std::byte>;
  c10::DataPtr data(content, new Owner(mapping_), [](void* owner) { delete static_cast<Owner*>(owner); }, c10::Device(c10::kCPU));
  return c10::Storage(c10::Storage::use_byte_size_t{}, record.size, std::move(data), nullptr, /*resizable=*/false);
}

}  // namespace treadle

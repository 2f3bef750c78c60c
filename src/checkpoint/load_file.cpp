#include "checkpoint/byte_source.hpp"
#include "checkpoint/dtype_names.hpp"
#include "checkpoint/pickle_values.hpp"
#include "checkpoint/unpickler.hpp"
#include "checkpoint/zip_reader.hpp"

#include <treadle/base/errors.hpp>
#include <treadle/checkpoint/file.hpp>
#include <treadle/checkpoint/file_system.hpp>

#include <c10/core/CPUAllocator.h>
#include <fmt/format.h>

#include <charconv>
#include <unordered_map>

namespace treadle {

namespace {

namespace fs = std::filesystem;

// What loading may take from the heap: 1 MiB and 64 bytes for each byte of the pickle. A part is kept for buffers and messages.
// Of a pickle whose length is known only at its end, the buffer that reads ahead takes 4 bytes for each byte.
constexpr std::uint64_t kHeap = 1 << 20;
constexpr std::uint64_t kHeapPerPickleByte = 64;
constexpr std::uint64_t kReservedHeap = 192 << 10;
constexpr std::uint64_t kStreamPerPickleByte = kHeapPerPickleByte - 4;
// torch.serialization.MAGIC_NUMBER and PROTOCOL_VERSION, which open its files from before 1.6.
constexpr std::string_view kLegacyMagic = "119547037146038801333356";
constexpr std::int64_t kLegacyProtocol = 1001;
// The newest layout of the archive that torch 2.13 knows (kMaxSupportedFileFormatVersion in caffe2/serialize/versions.h).
constexpr int kNewestVersion = 10;

c10::Storage allocate(std::uint64_t nbytes) {
  return c10::Storage(c10::Storage::use_byte_size_t{}, nbytes, c10::GetCPUAllocator(), /*resizable=*/true);
}

std::span<std::byte> bytes_of(c10::Storage& storage) {
  return {static_cast<std::byte*>(storage.mutable_data()), storage.nbytes()};
}

/// The records "data/N" of an archive.
class ZipStorages final : public StorageReader {
 public:
  ZipStorages(const ZipReader& zip, const PickleGraph& graph, std::string prefix, bool swapped, bool verify,
              const ByteSource& source)
      : zip_(zip), graph_(graph), prefix_(std::move(prefix)), swapped_(swapped), verify_(verify), source_(source) {}

  c10::Storage read(std::uint32_t number) override {
    const StorageSpec& spec = graph_.storages[number];
    const ZipRecord* record = zip_.find(prefix_ + "data/" + spec.key);
    if (!record) source_.fail(fmt::format("storage \"{}\" is missing in the archive", spec.key), spec.position);
    if (record->size != spec.nbytes) {
      source_.fail(fmt::format("storage \"{}\" should have {} bytes, its record has {}", spec.key, spec.nbytes, record->size),
                   spec.position);
    }
    c10::Storage storage = allocate(spec.nbytes);
    if (spec.nbytes > 0) zip_.read(*record, bytes_of(storage), verify_);
    if (swapped_) reverse_bytes(storage.mutable_data(), spec.nbytes, swap_unit(spec.dtype));
    return storage;
  }

 private:
  const ZipReader& zip_;
  const PickleGraph& graph_;
  std::string prefix_;
  bool swapped_;
  bool verify_;
  const ByteSource& source_;
};

/// The storages that follow the pickles of a legacy file: a length in elements, then the content.
class LegacyStorages final : public StorageReader {
 public:
  LegacyStorages(const ReadableFile& file, const fs::path& path, const PickleGraph& graph, bool swapped)
      : file_(file), path_(path), graph_(graph), swapped_(swapped), offsets_(graph.storages.size(), 0) {}

  /// Takes the storages named by `keys`, in their order, from `offset` on. Every storage of the pickle must be among them.
  void locate(const std::vector<std::string>& keys, std::uint64_t offset) {
    std::unordered_map<std::string_view, std::size_t> numbers;
    for (std::size_t i = 0; i < graph_.storages.size(); ++i) numbers.emplace(graph_.storages[i].key, i);
    for (const std::string& key : keys) {
      auto found = numbers.find(key);
      if (found == numbers.end()) fail(fmt::format("storage \"{}\" is announced, but nothing refers to it", key), offset);
      const StorageSpec& spec = graph_.storages[found->second];
      if (offset > file_.size() || file_.size() - offset < 8) fail("the file ends where a storage should begin", offset);
      std::uint64_t count = 0;
      file_.read(offset, std::as_writable_bytes(std::span(&count, 1)));
      if (swapped_) count = __builtin_bswap64(count);
      std::uint64_t nbytes = 0;
      if (__builtin_mul_overflow(count, c10::elementSize(spec.dtype), &nbytes) || nbytes != spec.nbytes) {
        fail(fmt::format("storage \"{}\" should have {} bytes, the file says {} elements", key, spec.nbytes, count), offset);
      }
      offset += 8;
      if (nbytes > file_.size() - offset) fail("the file ends within a storage", file_.size());
      offsets_[found->second] = offset;
      offset += nbytes;
    }
    for (std::size_t i = 0; i < offsets_.size(); ++i) {
      if (offsets_[i] == 0) fail(fmt::format("storage \"{}\" is missing", graph_.storages[i].key), offset);
    }
  }

  c10::Storage read(std::uint32_t number) override {
    const StorageSpec& spec = graph_.storages[number];
    c10::Storage storage = allocate(spec.nbytes);
    if (spec.nbytes > 0) file_.read(offsets_[number], bytes_of(storage));
    if (swapped_) reverse_bytes(storage.mutable_data(), spec.nbytes, swap_unit(spec.dtype));
    return storage;
  }

 private:
  [[noreturn]] void fail(const std::string& message, std::uint64_t offset) const { throw FormatError(message, path_, offset); }

  const ReadableFile& file_;
  const fs::path& path_;
  const PickleGraph& graph_;
  bool swapped_;
  std::vector<std::uint64_t> offsets_;
};

ConversionOptions conversion(const ReadableFile& file, const LoadOptions& options) {
  return {.file_size = file.size(), .allow_expanded = options.allow_expanded, .read_tensors = options.read_tensors};
}

bool read_byte_order(const ZipReader& zip, const std::string& prefix, bool verify, const fs::path& path) {
  const ZipRecord* record = zip.find(prefix + "byteorder");
  if (!record) return false;
  std::string order(std::min<std::uint64_t>(record->size, 16), '\0');
  if (record->size <= 16) zip.read(*record, std::as_writable_bytes(std::span(order)), verify);
  if (order != "little" && order != "big") throw FormatError("the byte order is neither little nor big", path, record->header);
  return order == "big";
}

void check_version(const ZipReader& zip, const std::string& prefix, bool verify, const fs::path& path) {
  const ZipRecord* record = zip.find(prefix + "version");
  if (!record) return;
  std::string text(std::min<std::uint64_t>(record->size, 16), '\0');
  if (record->size <= 16) zip.read(*record, std::as_writable_bytes(std::span(text)), verify);
  int version = 0;
  auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), version);
  bool clean = error == std::errc() &&
               text.substr(static_cast<std::size_t>(end - text.data())).find_first_not_of("\r\n ") == std::string::npos;
  if (!clean || version < 1) throw FormatError("the version of the archive is no number", path, record->header);
  if (version > kNewestVersion) {
    throw FormatError(fmt::format("version {} of the archive; {} is the newest known", version, kNewestVersion), path,
                      record->header);
  }
}

/// What is left for the objects of a pickle when the directory, the pickle itself and its copies are in memory.
std::uint64_t graph_budget(const ZipReader& zip, const ZipRecord& pickle, const fs::path& path) {
  const std::uint64_t all = kHeap + kHeapPerPickleByte * pickle.size;
  const std::uint64_t taken = kReservedHeap + zip.heap() + 3 * pickle.size;
  if (taken > all)
    throw FormatError("the directory of the archive is far larger than the pickle accounts for", path, pickle.header);
  return all - taken;
}

Value load_zip(const ReadableFile& file, const fs::path& path, const LoadOptions& options) {
  ZipReader zip(file, path);
  if (zip.records().empty()) throw FormatError("an empty zip archive", path, 0);
  const std::string& first = zip.records().front().name;
  std::string prefix = first.substr(0, first.find('/') + 1);
  const ZipRecord* record = zip.find(prefix + "data.pkl");
  if (!record)
    throw FormatError(fmt::format("the archive has no record \"{}data.pkl\": a zip file, but no checkpoint", prefix), path, 0);
  if (record->size > options.max_pickle_bytes) {
    throw FormatError(fmt::format("a pickle of {} bytes; max_pickle_bytes is {}", record->size, options.max_pickle_bytes), path,
                      record->header);
  }
  check_version(zip, prefix, options.verify, path);
  bool swapped = read_byte_order(zip, prefix, options.verify, path);
  ByteSource source(file, path, zip.content_offset(*record), record->size);
  if (options.verify) zip.verify(*record, source.bytes(0, record->size));
  PickleGraph graph(graph_budget(zip, *record, path));
  Unpickler unpickler(source, graph, 0, {.unknown = options.unknown});
  NodeId root = unpickler.load();
  ZipStorages storages(zip, graph, prefix, swapped, options.verify, source);
  return to_value(graph, source, root, &storages, conversion(file, options));
}

NodeId next_pickle(ByteSource& source, PickleGraph& graph, std::uint64_t& position, Unpickler::Options options) {
  options.budget_per_byte = kStreamPerPickleByte;
  Unpickler unpickler(source, graph, position, options);
  NodeId root = unpickler.load();
  position = unpickler.position();
  return root;
}

/// True when sys_info says that the machine that wrote the file was big-endian.
bool is_big_endian(const PickleGraph& graph, const ByteSource& source, NodeId info, std::uint64_t position) {
  if (graph[info].kind != NodeKind::dict) source.fail("the facts about the machine are no dict", position);
  auto items = graph.items(info);
  for (std::size_t i = 0; i < items.size(); i += 2) {
    const Node& key = graph[items[i]];
    if (key.kind == NodeKind::text && content_of(graph, source, key) == "little_endian") return graph[items[i + 1]].wide == 0;
  }
  return false;
}

// Pickles of a magic number, a version, facts about the machine, the object, and the keys of the storages; then the storages.
Value load_legacy(const ReadableFile& file, ByteSource& source, PickleGraph& graph, std::uint64_t position,
                  const LoadOptions& options) {
  NodeId protocol = next_pickle(source, graph, position, {.storages = false});
  if (graph[protocol].kind != NodeKind::integer || static_cast<std::int64_t>(graph[protocol].wide) != kLegacyProtocol) {
    source.fail("the version of the legacy format is unknown", position);
  }
  bool swapped = is_big_endian(graph, source, next_pickle(source, graph, position, {.storages = false}), position);
  NodeId root = next_pickle(source, graph, position, {.unknown = options.unknown});
  NodeId list = next_pickle(source, graph, position, {.storages = false});
  if (graph[list].kind != NodeKind::list) source.fail("the keys of the storages are no list", position);
  graph.charge(sizeof(NodeId) * graph.count(list) + 72 * graph.storages.size());
  std::vector<std::string> keys;
  for (NodeId id : graph.items(list)) {
    const Node& key = graph[id];
    if (key.kind != NodeKind::text) source.fail("the key of a storage is no text", position);
    keys.push_back(content_of(graph, source, key));
    graph.charge(2 * sizeof(std::string) + keys.back().size());
  }
  LegacyStorages storages(file, source.path(), graph, swapped);
  storages.locate(keys, position);
  return to_value(graph, source, root, &storages, conversion(file, options));
}

Value load_pickle(const ReadableFile& file, const fs::path& path, const LoadOptions& options) {
  ByteSource source(file, path, 0, std::min(file.size(), options.max_pickle_bytes));
  PickleGraph graph(kHeap - kReservedHeap);
  std::uint64_t position = 0;
  NodeId root = next_pickle(source, graph, position, {.unknown = options.unknown, .storages = false});
  const Node& node = graph[root];
  if (node.kind == NodeKind::text && content_of(graph, source, node) == kLegacyMagic) {
    return load_legacy(file, source, graph, position, options);
  }
  if (node.kind != NodeKind::dict) throw FormatError("the pickle holds no dict", path, 0);
  return to_value(graph, source, root, nullptr, conversion(file, options));
}

/// What a file that is no checkpoint looks like.
std::string guess(std::string_view head) {
  if (head.starts_with("\x1f\x8b")) return "gzip";
  if (head.starts_with("version https://git-lfs")) return "a Git LFS pointer; run \"git lfs pull\"";
  if (head.starts_with("\x89HDF")) return "HDF5";
  if (head.starts_with("BZh")) return "bzip2";
  if (head.starts_with("\xfd"
                       "7zXZ"))
    return "xz";
  if (head.size() >= 262 && head.substr(257, 5) == "ustar") return "a tar archive";
  if (head.starts_with("<!") || head.starts_with("<html")) return "a web page";
  if (head.size() >= 9 && head[8] == '{' && read_little<std::uint64_t>(head) < (1 << 30)) return "safetensors";
  if (head.find_first_not_of('\0') == std::string_view::npos) return "nothing but zeros";
  bool text = head.find_first_of(std::string_view("\0\x01\x02\x03\x04\x05", 6)) == std::string_view::npos;
  return text ? "text" : "data of an unknown kind";
}

}  // namespace

void validate(const LoadOptions& options) {
  if (options.max_pickle_bytes == 0)
    throw ConfigError("LoadOptions.max_pickle_bytes must be above 0", "LoadOptions.max_pickle_bytes");
}

Value load_checkpoint_file(const fs::path& path, const LoadOptions& options) {
  validate(options);
  auto files = options.file_system ? options.file_system : local_file_system();
  auto file = files->open(path);
  if (file->size() == 0) throw FormatError("the file is empty", path, 0);
  std::string head(std::min<std::uint64_t>(file->size(), 512), '\0');
  file->read(0, std::as_writable_bytes(std::span(head)));
  if (head.starts_with("PK\x03\x04")) return load_zip(*file, path, options);
  if (head.size() >= 2 && static_cast<unsigned char>(head[0]) == 0x80 && head[1] >= 2 && head[1] <= 5)
    return load_pickle(*file, path, options);
  throw FormatError(fmt::format("not a checkpoint; it looks like {}", guess(head)), path, 0);
}

}  // namespace treadle

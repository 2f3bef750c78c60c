#include "checkpoint/archive.hpp"
#include "checkpoint/byte_source.hpp"
#include "checkpoint/dtype_names.hpp"
#include "checkpoint/pickle_values.hpp"
#include "checkpoint/safetensors_format.hpp"
#include "checkpoint/unpickler.hpp"
#include "checkpoint/zip_format.hpp"

#include <treadle/base/errors.hpp>
#include <treadle/checkpoint/file.hpp>
#include <treadle/checkpoint/file_system.hpp>

#include <fmt/format.h>

#include <unordered_map>

namespace treadle {

namespace {

namespace fs = std::filesystem;

// Of a pickle whose length is known only at its end, the buffer that reads ahead takes 4 bytes for each byte.
constexpr std::uint64_t kStreamPerPickleByte = kHeapPerPickleByte - 4;
// torch.serialization.MAGIC_NUMBER and PROTOCOL_VERSION, which open its files from before 1.6.
constexpr std::string_view kLegacyMagic = "119547037146038801333356";
constexpr std::int64_t kLegacyProtocol = 1001;

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
    c10::Storage storage = allocate_storage(spec.nbytes);
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

Value load_zip(const ReadableFile& file, const fs::path& path, const LoadOptions& options) {
  Archive archive(file, path, options);
  return to_value(archive.graph(), archive.source(), archive.root(), &archive, conversion(file, options));
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
  const Unpickler::Options plain{.storages = false, .max_bytes = options.max_pickle_bytes};
  NodeId protocol = next_pickle(source, graph, position, plain);
  if (graph[protocol].kind != NodeKind::integer || static_cast<std::int64_t>(graph[protocol].wide) != kLegacyProtocol) {
    source.fail("the version of the legacy format is unknown", position);
  }
  bool swapped = is_big_endian(graph, source, next_pickle(source, graph, position, plain), position);
  NodeId root = next_pickle(source, graph, position, {.unknown = options.unknown, .max_bytes = options.max_pickle_bytes});
  NodeId list = next_pickle(source, graph, position, plain);
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
  ByteSource source(file, path, 0, file.size());
  PickleGraph graph(kHeap - kReservedHeap);
  std::uint64_t position = 0;
  NodeId root = next_pickle(source, graph, position,
                            {.unknown = options.unknown, .storages = false, .max_bytes = options.max_pickle_bytes});
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
  if (head.starts_with(zip::kMagic)) return load_zip(*file, path, options);
  if (head.size() >= 2 && static_cast<unsigned char>(head[0]) == 0x80 && head[1] >= 2 && head[1] <= 5)
    return load_pickle(*file, path, options);
  if (looks_like_safetensors(head, file->size()))
    return read_safetensors(*file, path, options.max_pickle_bytes, options.read_tensors);
  throw FormatError(fmt::format("not a checkpoint; it looks like {}", guess(head)), path, 0);
}

}  // namespace treadle

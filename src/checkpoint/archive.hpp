#pragma once

#include "checkpoint/byte_source.hpp"
#include "checkpoint/pickle_graph.hpp"
#include "checkpoint/pickle_values.hpp"
#include "checkpoint/zip_reader.hpp"

#include <treadle/checkpoint/file.hpp>

#include <filesystem>
#include <memory>
#include <string>

namespace treadle {

/// What loading may take from the heap: 1 MiB and 64 bytes for each byte of the pickle. A part is kept for buffers and messages.
inline constexpr std::uint64_t kHeap = 1 << 20;
inline constexpr std::uint64_t kHeapPerPickleByte = 64;
inline constexpr std::uint64_t kReservedHeap = 192 << 10;

/// Memory for the content of a tensor.
c10::Storage allocate_storage(std::uint64_t nbytes);
std::span<std::byte> bytes_of(c10::Storage& storage);

/// A zip file of torch.save: its directory and its pickle have been read, its storages are read when they are asked for. Borrows
/// the file. Throws FormatError.
class Archive final : public StorageReader {
 public:
  Archive(const ReadableFile& file, const std::filesystem::path& path, const LoadOptions& options);

  PickleGraph& graph() noexcept { return *graph_; }
  const ByteSource& source() const noexcept { return *source_; }
  NodeId root() const noexcept { return root_; }

  /// From now on storages lie in `mapping`, the whole file, where their place allows it.
  void map(std::shared_ptr<std::byte> mapping) { mapping_ = std::move(mapping); }
  c10::Storage read(std::uint32_t number) override;

 private:
  std::string small_record(const ZipRecord& record) const;
  bool is_big_endian() const;
  void check_version() const;
  PickleGraph make_graph(const ZipRecord& pickle) const;
  c10::Storage mapped(const ZipRecord& record, std::uint64_t offset) const;

  std::filesystem::path path_;
  bool verify_;
  ZipReader zip_;
  std::string prefix_;
  bool swapped_ = false;
  std::unique_ptr<ByteSource> source_;
  std::unique_ptr<PickleGraph> graph_;
  NodeId root_ = kNoNode;
  std::shared_ptr<std::byte> mapping_;
};

}  // namespace treadle

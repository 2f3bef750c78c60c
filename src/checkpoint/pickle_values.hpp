#pragma once

#include "checkpoint/byte_source.hpp"
#include "checkpoint/pickle_graph.hpp"

#include <treadle/base/value.hpp>

#include <c10/core/Storage.h>

#include <cstdint>
#include <unordered_map>

namespace treadle {

/// Gives the storages that a pickle refers to, each once.
class StorageReader {
 public:
  virtual ~StorageReader() = default;
  /// The content of storage `number` of the graph, exactly as long as the pickle says, little-endian.
  virtual c10::Storage read(std::uint32_t number) = 0;
};

/// Which tensor of the graph a placeholder stands for.
using Placeholders = std::unordered_map<const c10::TensorImpl*, std::uint64_t>;

struct ConversionOptions {
  std::uint64_t file_size = 0;  ///< what a tensor may stand for
  bool allow_expanded = false;
  bool read_tensors = true;  ///< false: tensors lie on the meta device and no storage is read
  /// Not null: tensors are placeholders on the meta device, listed here; sparse ones and numpy arrays are read.
  Placeholders* placeholders = nullptr;
};

/// Turns the object `root` of a pickle into a Value. Shared containers become copies. Throws FormatError.
Value to_value(PickleGraph& graph, const ByteSource& source, NodeId root, StorageReader* storages,
               const ConversionOptions& options);

/// Reverses the bytes of every `unit` bytes.
void reverse_bytes(void* data, std::size_t nbytes, std::size_t unit) noexcept;

}  // namespace treadle

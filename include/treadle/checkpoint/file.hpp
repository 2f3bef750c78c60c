#pragma once

#include <treadle/base/value.hpp>

#include <cstdint>
#include <filesystem>
#include <memory>
#include <string>

namespace treadle {

class FileSystem;

/// What to do with a Python class or function that is not on the list of known ones.
enum class UnknownGlobals {
  reject,      ///< FormatError that names it
  keep_opaque  ///< a Dict {"__opaque__": "module.name"}, with "args", "state" and "items" where the file gives them. Nothing is
               ///< called.
};

struct LoadOptions {
  UnknownGlobals unknown = UnknownGlobals::reject;
  /// Compares the CRC-32 of every record. Without it a flipped bit in a tensor goes unnoticed; a malformed file never does.
  bool verify = true;
  /// Lets a tensor with a stride of 0 stand for more bytes than the file has.
  bool allow_expanded = false;
  /// False: nothing but the pickle is read, and tensors lie on the "meta" device, with dtype, shape and strides but no data; a
  /// sparse one as a dense one.
  bool read_tensors = true;
  /// The largest pickle that is read, in bytes; outside a zip file, where it holds the weights too, without the content of its
  /// strings and arrays. While loading, heap use stays below 1 MiB + 64 x the size of the pickle, plus tensors.
  std::uint64_t max_pickle_bytes = std::uint64_t{256} << 20;
  /// Where the file lies; null for the local file system.
  std::shared_ptr<FileSystem> file_system = nullptr;
};

/// Throws ConfigError that names the field: `max_pickle_bytes` must not be 0.
void validate(const LoadOptions& options);

struct SaveOptions {
  /// Returns when the file survives a power failure. False: the file is complete and in place, but may be lost.
  bool durable = true;
  /// Where the file goes; null for the local file system.
  std::shared_ptr<FileSystem> file_system = nullptr;
};

/// Reads a file that `torch.save` wrote (the zip format, or the one before PyTorch 1.6), or a pickle of protocol 2 to 5 as model
/// zoos publish them, with numpy arrays, or a safetensors file (safetensors.hpp). Any thread; tensors lie on the CPU.
///
/// The file may be hostile: nothing in it is executed, and no more memory is taken than its size accounts for. Python's types
/// become: Parameter → Tensor; OrderedDict, defaultdict, Counter → Dict; torch.Size → Tuple; set, frozenset → List; bytearray →
/// bytes; dtype, layout, device and the classes named here → text ("torch.float32", "cuda:0"); a key of a dict that is neither
/// text nor an integer → its text as in Python ("(1, 2)", "None", "0.5"); complex → Tuple (real, imaginary); an integer
/// beyond 64 bits → its decimal digits as text; numpy arrays → Tensors, numpy scalars → numbers. Tensors that share a storage
/// share it afterwards; a list or dict that occurs at several places is copied to each.
///
/// Throws FormatError (file, offset, what was expected) when the file is damaged or is no checkpoint, IoError when it cannot be
/// read.
Value load_checkpoint_file(const std::filesystem::path& path, const LoadOptions& options = {});

/// Writes `value` as `torch.save` does (zip format, stored, pickle protocol 2), so that `torch.load(path, weights_only=True)`
/// gives equal values: null → None, List → list, Tuple → tuple, Dict → dict, bytes → bytes, numbers and text as they are. Tensors
/// on a device are written as CPU tensors; views keep their strides and share their storage in the file as they do in memory.
///
/// The file appears under `path` complete or not at all; an existing one is replaced. Any thread; nobody may change the tensors
/// or save under the same path meanwhile. Throws IoError, and FormatError for what the format cannot hold (text that is no UTF-8,
/// quantized tensors of less than 8 bits).
void save_checkpoint_file(const std::filesystem::path& path, const Value& value, const SaveOptions& options = {});

}  // namespace treadle

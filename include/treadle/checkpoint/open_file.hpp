#pragma once

#include <treadle/base/value.hpp>
#include <treadle/checkpoint/file.hpp>

#include <filesystem>
#include <memory>

namespace treadle {

/// A checkpoint that is looked into without being read: its structure is known at once, a tensor's bytes are fetched when it is
/// asked for. For files that nobody rewrites meanwhile: the file is mapped into memory, and one that becomes shorter ends the
/// process (SIGBUS), as it does every program that maps files. Files that Treadle and `torch.save` write are replaced, never
/// rewritten.
///
///     CheckpointFile file("model_final.pth");
///     at::Tensor weight = file.read(ValueView(file.content())["model"]["fc.weight"].as_tensor());
///
/// Any thread; a move needs exclusion.
class CheckpointFile {
 public:
  /// Opens a zip file of `torch.save`; pickle and directory are read and verified as `load_checkpoint_file` does, with the same
  /// promises about hostile files and the same errors. Files of other formats are read whole. `options.read_tensors` is not
  /// heeded.
  explicit CheckpointFile(const std::filesystem::path& path, const LoadOptions& options = {});
  ~CheckpointFile();
  CheckpointFile(CheckpointFile&& other) noexcept;
  CheckpointFile& operator=(CheckpointFile&& other) noexcept;

  /// All that the file holds. Tensors are placeholders on the "meta" device, with dtype (of a quantized one, that of its whole
  /// numbers), shape and strides; only sparse ones and numpy arrays are there already.
  const Value& content() const noexcept;

  /// The tensor behind a placeholder of `content()`; what is no placeholder is given back. Its record is verified when it is
  /// touched for the first time. Tensors that share a storage in the file share it here. Where the store can map files, the
  /// tensor lies in the mapping, which it keeps: writing to it changes the file for nobody else, but this object gives the same
  /// tensor when it is asked again. Throws FormatError, IoError.
  at::Tensor read(const at::Tensor& placeholder) const;

  /// A copy of `part`, which is `content()` or a part of it, with every tensor read.
  Value read(const Value& part) const;

 private:
  class Contents;
  std::unique_ptr<Contents> contents_;
};

}  // namespace treadle

#pragma once

#include <treadle/base/value.hpp>

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

namespace treadle {

/// One thing that a checkpoint holds: a tensor, a number, text, or an empty container.
struct Leaf {
  std::string path;  ///< `model.fc.weight`, `trainer.hooks.LRScheduler.last`, `ranks[0].rng`
  const Value* value;
};

/// Everything in `root` in the order of the file. Borrows `root`.
std::vector<Leaf> leaves(const Value& root);

/// A checkpoint of any kind Treadle reads. Classes it does not know become dicts that name them.
Value read_checkpoint(const std::filesystem::path& file);

/// One line for a leaf that is no tensor; long text is cut.
std::string short_text(const Value& value);

std::string dtype_text(const at::Tensor& tensor);  ///< `float32`; of a sparse one `float32 sparse`
std::string shape_text(const at::Tensor& tensor);  ///< `(2, 3)`, `(2,)`, `()` as Python writes it
std::string size_text(std::uint64_t bytes);        ///< `512 B`, `1.5 KiB`, `2.0 GiB`

/// The parts whose bytes are the content: the tensor itself, contiguous and without a lazy conjugate or sign, on the CPU; of a
/// sparse one its indices and its values.
std::vector<at::Tensor> content_parts(const at::Tensor& tensor);
std::uint64_t content_bytes(const at::Tensor& tensor);
/// SHA-256 of the content, elements in row-major order, little-endian.
std::string content_sha256(const at::Tensor& tensor);

/// What is in a checkpoint, in numbers.
struct Totals {
  std::int64_t tensors = 0, elements = 0, others = 0;
  std::uint64_t bytes = 0;
};
Totals totals(const std::vector<Leaf>& found);

/// Whether the format has them: of those that can be read, the archives of PyTorch 1.6 and later alone do.
bool has_checksums(const std::filesystem::path& file);

}  // namespace treadle

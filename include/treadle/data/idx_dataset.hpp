#pragma once

#include <treadle/data/dataset.hpp>

#include <filesystem>
#include <string>

namespace treadle {

/// The array in an IDX file of unsigned bytes (two zero bytes, type 8, number of dimensions, each dimension as 32 bits
/// big-endian, then the elements in row-major order; http://yann.lecun.com/exdb/mnist), plain or gzip-compressed, as a uint8
/// tensor. Throws IoError when it cannot be read, followed by `advice` when it does not exist, and FormatError with the offset in
/// the uncompressed bytes when it is not such a file, is cut off, goes on after its end, or is damaged. Memory is asked for as
/// the bytes arrive, not as the header claims.
at::Tensor read_idx(const std::filesystem::path& path, const std::string& advice = {});

struct IdxOptions {
  std::filesystem::path images{};  ///< IDX file of shape (N, H, W)
  std::filesystem::path labels{};  ///< IDX file of shape (N)
  std::int64_t num_classes = 0;    ///< every label must be below it; 0 for no check
  std::string package_hint{};      ///< the Debian package that holds the files, for the message when one is missing; may be empty
};
void validate(const IdxOptions& options);

/// Pairs of small images and labels in the format of MNIST, held in memory as they are: fields "image", a uint8 tensor of shape
/// (1, H, W) with values 0 to 255, and "label", an integer. A Batch has "image" (B, 1, H, W) uint8 and "label" (B) int64.
/// Throws as `read_idx` does, and FormatError when the files do not belong together or a label is out of range.
class IdxDataset final : public Dataset {
 public:
  explicit IdxDataset(const IdxOptions& options);
  std::int64_t size() const override;
  Sample get(std::int64_t index, Rng& rng) const override;
  std::optional<Dict> get_batch(std::span<const std::int64_t> indices, BatchMemory* memory = nullptr) const override;
  std::optional<std::int64_t> label(std::int64_t index) const override;
  std::optional<ImageSize> image_size(std::int64_t index) const override;

 private:
  at::Tensor images_;  // (N, H, W) uint8
  at::Tensor labels_;  // (N) uint8
};

}  // namespace treadle

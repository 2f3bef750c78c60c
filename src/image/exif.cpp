#include "image/exif.hpp"

#include <ATen/ops/flip.h>

#include <cstddef>
#include <optional>
#include <vector>

namespace treadle {

namespace {

class Tiff {
 public:
  explicit Tiff(std::string_view bytes) : bytes_(bytes), big_endian_(bytes.starts_with("MM")) {}

  std::optional<std::uint32_t> number(std::size_t offset, std::size_t size) const {
    if (offset > bytes_.size() || bytes_.size() - offset < size) return std::nullopt;
    std::uint32_t value = 0;
    for (std::size_t i = 0; i < size; ++i) {
      const std::size_t place = big_endian_ ? i : size - 1 - i;
      value = value << 8 | static_cast<std::uint8_t>(bytes_[offset + place]);
    }
    return value;
  }

 private:
  std::string_view bytes_;
  bool big_endian_;
};

constexpr std::size_t kEntrySize = 12;
constexpr std::uint32_t kOrientationTag = 0x0112, kShortType = 3;

}  // namespace

int exif_orientation(std::string_view bytes) {
  if (!bytes.starts_with("II") && !bytes.starts_with("MM")) return 1;
  const Tiff tiff(bytes);
  const auto directory = tiff.number(4, 4);
  if (tiff.number(2, 2) != 42u || !directory) return 1;
  const std::uint32_t entries = tiff.number(*directory, 2).value_or(0);
  for (std::uint32_t i = 0; i < entries; ++i) {
    const std::size_t entry = *directory + std::size_t{2} + i * kEntrySize;
    const auto tag = tiff.number(entry, 2);
    if (!tag) return 1;
    if (*tag != kOrientationTag || tiff.number(entry + 2, 2) != kShortType) continue;
    const std::uint32_t value = tiff.number(entry + 8, 2).value_or(1);
    return value >= 1 && value <= 8 ? static_cast<int>(value) : 1;
  }
  return 1;
}

Image oriented(const Image& image, int orientation) {
  if (orientation <= 1) return image;
  const bool flip_rows = orientation == 3 || orientation == 4 || orientation == 7 || orientation == 8;
  const bool flip_columns = orientation == 2 || orientation == 3 || orientation == 6 || orientation == 7;
  const at::Tensor pixels = is_turned(orientation) ? image.pixels().transpose(0, 1) : image.pixels();
  std::vector<std::int64_t> flipped;
  if (flip_rows) flipped.push_back(0);
  if (flip_columns) flipped.push_back(1);
  return Image(flipped.empty() ? pixels : at::flip(pixels, flipped));
}

}  // namespace treadle

#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <filesystem>
#include <string>
#include <string_view>

namespace treadle {

/// A picture in memory: 8 bits per channel, rows from top to bottom. A value type; copies share the pixels.
class Image {
 public:
  /// A picture without pixels.
  Image();
  /// `pixels`: uint8 on the CPU, shape (height, width, channels) with 1 (grey), 3 (RGB, unless decoded as BGR) or 4 (RGBA)
  /// channels; made contiguous. Throws FormatError when it is something else.
  explicit Image(at::Tensor pixels);
  /// A picture of one colour; `colour` has as many values as channels are wanted.
  Image(std::int64_t height, std::int64_t width, std::initializer_list<std::uint8_t> colour);

  std::int64_t height() const { return pixels_.size(0); }
  std::int64_t width() const { return pixels_.size(1); }
  std::int64_t channels() const { return pixels_.size(2); }
  /// Contiguous, shape (height, width, channels).
  const at::Tensor& pixels() const noexcept { return pixels_; }
  /// The first channel of the pixel at (row, column); the others follow it. Not checked.
  std::uint8_t* at(std::int64_t row, std::int64_t column);
  const std::uint8_t* at(std::int64_t row, std::int64_t column) const;

 private:
  at::Tensor pixels_;
};

/// The channels a decoded picture shall have: those of the file (grey, RGB, or RGBA when it has transparency), or converted to a
/// certain kind; `bgr` is `rgb` with blue first. Transparency is dropped, not blended, by all but the first. A JPEG of four inks
/// (CMYK, YCCK) is RGB, by Pillow's formula. Grey is 0.299 R + 0.587 G + 0.114 B of the numbers in the file, whatever its chunks
/// gAMA, sRGB and the like say about them; of a JPEG it is the luminance that stands there.
enum class ColourMode { as_stored, grey, rgb, bgr };

struct DecodeOptions {
  ColourMode mode = ColourMode::as_stored;
  /// Above 0: a JPEG may be decoded at 1/2, 1/4 or 1/8 of its size, which is quicker, as long as its shorter side keeps at least
  /// this many pixels (libjpeg's scaling; sides are rounded up). A PNG always keeps its size.
  std::int64_t least_side = 0;
  /// Turn and mirror the picture as the orientation in its Exif data says (tag 0x0112 of the first directory, values 1 to 8).
  bool apply_orientation = true;
  std::int64_t max_pixels =
      std::int64_t{1} << 28;  ///< a picture that claims more is refused before memory is asked for; at least 1
};
void validate(const DecodeOptions& options);

/// Decodes PNG or JPEG, told apart by their first bytes; 16 bits per channel become 8. `source` stands in messages, usually the
/// file's name. Any thread. Throws FormatError, with the offset where it is known, when the bytes are neither, cut off or
/// damaged: a JPEG too, of which the library would make up the missing part.
Image decode_image(std::string_view bytes, const DecodeOptions& options = {}, const std::filesystem::path& source = "image");
/// Reads and decodes a file; also throws IoError.
Image load_image(const std::filesystem::path& path, const DecodeOptions& options = {});

struct ImageSize {
  std::int64_t height, width;
  bool operator==(const ImageSize&) const = default;
};
/// The size that `load_image` would give with no options but `max_pixels`, from the head of the file alone. Throws as it does,
/// but finds no damage behind the head, and not the orientation of a PNG whose chunk eXIf stands behind the pixels.
ImageSize read_image_size(const std::filesystem::path& path, std::int64_t max_pixels = DecodeOptions().max_pixels);

/// The picture as a PNG file. Throws FormatError when it has no pixels.
std::string encode_png(const Image& image);
/// Writes a PNG file, replacing one of that name only when it is complete. Throws IoError.
void save_png(const Image& image, const std::filesystem::path& path);

}  // namespace treadle

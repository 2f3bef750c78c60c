#include <treadle/base/errors.hpp>

#include <png.h>

#include <algorithm>
#include <csetjmp>
#include <cstring>
#include <vector>

#include "image/codecs.hpp"
#include "image/exif.hpp"

namespace treadle {

namespace {

/// libpng reports an error by a call that may not return, so it jumps back to where it was entered. Between that place and the
/// call there must be no C++ object with a destructor: each of the steps below is such a stretch, all owners live in the object
/// itself.
class PngDecoder {
 public:
  PngDecoder(std::string_view bytes, const std::filesystem::path& source) : bytes_(bytes), source_(source) {
    png_ = png_create_read_struct(PNG_LIBPNG_VER_STRING, this, on_error, on_warning);
    info_ = png_ ? png_create_info_struct(png_) : nullptr;
    if (!info_) {
      png_destroy_read_struct(&png_, nullptr, nullptr);
      throw std::bad_alloc();
    }
    png_set_read_fn(png_, this, [](png_structp png, png_bytep to, std::size_t count) {
      auto& self = *static_cast<PngDecoder*>(png_get_io_ptr(png));
      if (count > self.bytes_.size() - self.offset_) {
        self.offset_ = self.bytes_.size();
        png_error(png, "the file is cut off");
      }
      std::memcpy(to, self.bytes_.data() + self.offset_, count);
      self.offset_ += count;
    });
  }
  ~PngDecoder() { png_destroy_read_struct(&png_, &info_, nullptr); }
  PngDecoder(const PngDecoder&) = delete;
  PngDecoder& operator=(const PngDecoder&) = delete;

  /// A coloured picture comes as RGB when grey is wanted: libpng's own grey is one of light where a chunk says what the numbers
  /// mean.
  void read_header(ColourMode mode) {
    if (setjmp(png_jmpbuf(png_))) fail();
    png_read_info(png_, info_);
    const int type = png_get_color_type(png_, info_);
    const bool coloured = (type & PNG_COLOR_MASK_COLOR) != 0;
    const bool transparent = (type & PNG_COLOR_MASK_ALPHA) != 0 || png_get_valid(png_, info_, PNG_INFO_tRNS) != 0;
    const bool keep_alpha = transparent && mode == ColourMode::as_stored;
    png_set_expand(png_);  // palettes, fewer than 8 bits, a transparent colour
    png_set_scale_16(png_);
    if (transparent && !keep_alpha) png_set_strip_alpha(png_);
    if (!coloured && (mode == ColourMode::rgb || mode == ColourMode::bgr || keep_alpha)) png_set_gray_to_rgb(png_);
    if (mode == ColourMode::bgr) png_set_bgr(png_);
    png_set_interlace_handling(png_);
    png_read_update_info(png_, info_);
  }

  std::uint64_t height() const { return png_get_image_height(png_, info_); }
  std::uint64_t width() const { return png_get_image_width(png_, info_); }
  int channels() const { return png_get_channels(png_, info_); }

  /// Of the chunk eXIf, which may stand behind the pixels too.
  int orientation() const {
    png_uint_32 size = 0;
    png_bytep data = nullptr;
    if (png_get_eXIf_1(png_, info_, &size, &data) == 0) return 1;
    return exif_orientation({reinterpret_cast<const char*>(data), size});
  }

  void read_pixels(Image& image) {
    rows_.resize(static_cast<std::size_t>(image.height()));
    for (std::int64_t row = 0; row < image.height(); ++row) rows_[static_cast<std::size_t>(row)] = image.at(row, 0);
    read_rows();
  }

 private:
  [[noreturn]] static void on_error(png_structp png, png_const_charp message) {
    auto& self = *static_cast<PngDecoder*>(png_get_error_ptr(png));
    std::strncpy(self.message_, message, sizeof self.message_ - 1);
    png_longjmp(png, 1);
  }
  // Warnings are about chunks that do not change the pixels.
  static void on_warning(png_structp, png_const_charp) {}

  void read_rows() {
    if (setjmp(png_jmpbuf(png_))) fail();
    png_read_image(png_, rows_.data());
    png_read_end(png_, info_);
  }

  [[noreturn]] void fail() { throw FormatError(std::string("the PNG data is damaged: ") + message_, source_, offset_); }

  std::string_view bytes_;
  const std::filesystem::path& source_;
  png_structp png_ = nullptr;
  png_infop info_ = nullptr;
  std::size_t offset_ = 0;
  std::vector<png_bytep> rows_;
  char message_[200] = {};
};

class PngEncoder {
 public:
  explicit PngEncoder(const Image& image) : image_(image), rows_(static_cast<std::size_t>(image.height())) {
    for (std::int64_t row = 0; row < image.height(); ++row) rows_[static_cast<std::size_t>(row)] = image.at(row, 0);
    png_ = png_create_write_struct(PNG_LIBPNG_VER_STRING, this, on_error, nullptr);
    info_ = png_ ? png_create_info_struct(png_) : nullptr;
    if (!info_) {
      png_destroy_write_struct(&png_, nullptr);
      throw std::bad_alloc();
    }
  }
  ~PngEncoder() { png_destroy_write_struct(&png_, &info_); }
  PngEncoder(const PngEncoder&) = delete;
  PngEncoder& operator=(const PngEncoder&) = delete;

  std::string encode() {
    write();
    return std::move(bytes_);
  }

 private:
  [[noreturn]] static void on_error(png_structp png, png_const_charp message) {
    auto& self = *static_cast<PngEncoder*>(png_get_error_ptr(png));
    std::strncpy(self.message_, message, sizeof self.message_ - 1);
    png_longjmp(png, 1);
  }

  // No exception may pass through libpng's frames, so running out of memory becomes one of its errors.
  static void append(png_structp png, png_bytep bytes, std::size_t count) {
    auto& self = *static_cast<PngEncoder*>(png_get_io_ptr(png));
    bool appended = true;
    try {
      self.bytes_.append(reinterpret_cast<const char*>(bytes), count);
    } catch (const std::exception&) {
      appended = false;
    }
    if (!appended) png_error(png, "no memory");
  }

  void write() {
    if (setjmp(png_jmpbuf(png_))) throw FormatError(std::string("cannot encode a picture as PNG: ") + message_);
    png_set_write_fn(png_, this, append, nullptr);
    const int type = image_.channels() == 1   ? PNG_COLOR_TYPE_GRAY
                     : image_.channels() == 3 ? PNG_COLOR_TYPE_RGB
                                              : PNG_COLOR_TYPE_RGBA;
    png_set_IHDR(png_, info_, static_cast<png_uint_32>(image_.width()), static_cast<png_uint_32>(image_.height()), 8, type,
                 PNG_INTERLACE_NONE, PNG_COMPRESSION_TYPE_DEFAULT, PNG_FILTER_TYPE_DEFAULT);
    png_write_info(png_, info_);
    png_write_image(png_, const_cast<png_bytepp>(rows_.data()));
    png_write_end(png_, info_);
  }

  const Image& image_;
  std::vector<const std::uint8_t*> rows_;
  png_structp png_ = nullptr;
  png_infop info_ = nullptr;
  std::string bytes_;
  char message_[200] = {};
};

}  // namespace

Image decode_png(std::string_view bytes, const DecodeOptions& options, const std::filesystem::path& source) {
  PngDecoder decoder(bytes, source);
  decoder.read_header(options.mode);
  Image image = make_image(decoder.height(), decoder.width(), decoder.channels(), options, source);
  decoder.read_pixels(image);
  if (options.mode == ColourMode::grey && image.channels() == 3) image = grey_of(image);
  return options.apply_orientation ? oriented(image, decoder.orientation()) : image;
}

ImageSize png_size(std::string_view bytes, const DecodeOptions& options, const std::filesystem::path& source) {
  PngDecoder decoder(bytes, source);
  decoder.read_header(ColourMode::as_stored);
  check_image_size(decoder.height(), decoder.width(), options, source);
  const auto height = static_cast<std::int64_t>(decoder.height()), width = static_cast<std::int64_t>(decoder.width());
  return is_turned(decoder.orientation()) ? ImageSize{width, height} : ImageSize{height, width};
}

std::string encode_png(const Image& image) {
  if (image.height() == 0 || image.width() == 0) throw FormatError("a picture without pixels cannot be a PNG file");
  return PngEncoder(image).encode();
}

}  // namespace treadle

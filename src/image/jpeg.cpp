#include <treadle/base/errors.hpp>

#include <csetjmp>
#include <cstddef>
#include <cstdio>

#include <jpeglib.h>

#include <ATen/ops/empty.h>

#include <algorithm>
#include <array>
#include <vector>

#include "image/codecs.hpp"
#include "image/exif.hpp"

namespace treadle {

namespace {

/// libjpeg reports an error by a call that may not return, so it jumps back to where the decoder was entered. Between that place
/// and the call there must be no C++ object with a destructor: each of the steps below is such a stretch, all owners live in
/// JpegDecoder.
class JpegDecoder {
 public:
  JpegDecoder(std::string_view bytes, const std::filesystem::path& source) : bytes_(bytes), source_(source) {
    info_.err = jpeg_std_error(&errors_.base);
    errors_.base.error_exit = [](j_common_ptr info) { std::longjmp(reinterpret_cast<Errors*>(info->err)->back, 1); };
    // Level -1 is a warning: data that is damaged or missing, for which the library would put in something of its own.
    errors_.base.emit_message = [](j_common_ptr info, int level) {
      if (level < 0) std::longjmp(reinterpret_cast<Errors*>(info->err)->back, 1);
    };
    if (setjmp(errors_.back)) fail();
    jpeg_create_decompress(&info_);
  }
  ~JpegDecoder() { jpeg_destroy_decompress(&info_); }
  JpegDecoder(const JpegDecoder&) = delete;
  JpegDecoder& operator=(const JpegDecoder&) = delete;

  void read_header(ColourMode mode, std::int64_t least_side) {
    if (setjmp(errors_.back)) fail();
    jpeg_save_markers(&info_, JPEG_APP0 + 1, 0xffff);
    jpeg_mem_src(&info_, reinterpret_cast<const unsigned char*>(bytes_.data()), bytes_.size());
    jpeg_read_header(&info_, TRUE);
    info_.out_color_space = output_space(mode);
    info_.dct_method = JDCT_ISLOW;
    info_.scale_num = 1;
    info_.scale_denom = least_side < 1 ? 1 : 8;
    const JDIMENSION side = std::min(info_.image_height, info_.image_width);
    while (info_.scale_denom > 1 && (side + info_.scale_denom - 1) / info_.scale_denom < least_side) info_.scale_denom /= 2;
    jpeg_calc_output_dimensions(&info_);
  }

  /// As stored in the file.
  std::uint64_t height() const { return info_.image_height; }
  std::uint64_t width() const { return info_.image_width; }
  /// As decoded.
  std::uint64_t output_height() const { return info_.output_height; }
  std::uint64_t output_width() const { return info_.output_width; }
  int channels() const { return info_.out_color_space == JCS_GRAYSCALE ? 1 : has_inks() ? 4 : 3; }
  /// Cyan, magenta, yellow and black, as the file has them, in place of what was asked for: libjpeg turns them into nothing else.
  bool has_inks() const { return info_.out_color_space == JCS_CMYK; }

  /// Before `read_pixels`, behind which libjpeg keeps no marker.
  int orientation() const {
    using namespace std::string_view_literals;
    for (const jpeg_marker_struct* marker = info_.marker_list; marker != nullptr; marker = marker->next) {
      const std::string_view data(reinterpret_cast<const char*>(marker->data), marker->data_length);
      if (data.starts_with("Exif\0\0"sv)) return exif_orientation(data.substr(6));
    }
    return 1;
  }

  void read_pixels(Image& image) {
    rows_.resize(static_cast<std::size_t>(image.height()));
    for (std::int64_t row = 0; row < image.height(); ++row) rows_[static_cast<std::size_t>(row)] = image.at(row, 0);
    read_rows();
  }

 private:
  struct Errors {
    jpeg_error_mgr base;  // the first member: libjpeg passes its address
    std::jmp_buf back;
  };

  J_COLOR_SPACE output_space(ColourMode mode) const {
    if (info_.jpeg_color_space == JCS_CMYK || info_.jpeg_color_space == JCS_YCCK) return JCS_CMYK;
    if (mode == ColourMode::grey || (mode == ColourMode::as_stored && info_.num_components == 1)) return JCS_GRAYSCALE;
    return mode == ColourMode::bgr ? JCS_EXT_BGR : JCS_RGB;
  }

  void read_rows() {
    if (setjmp(errors_.back)) fail();
    jpeg_start_decompress(&info_);
    while (info_.output_scanline < info_.output_height) {
      jpeg_read_scanlines(&info_, rows_.data() + info_.output_scanline, info_.output_height - info_.output_scanline);
    }
    jpeg_finish_decompress(&info_);
  }

  [[noreturn]] void fail() {
    std::array<char, JMSG_LENGTH_MAX> text{};
    info_.err->format_message(reinterpret_cast<j_common_ptr>(&info_), text.data());
    const std::uint64_t left = info_.src ? info_.src->bytes_in_buffer : bytes_.size();
    throw FormatError(std::string("the JPEG data is damaged: ") + text.data(), source_,
                      bytes_.size() - std::min<std::uint64_t>(left, bytes_.size()));
  }

  std::string_view bytes_;
  const std::filesystem::path& source_;
  jpeg_decompress_struct info_{};
  Errors errors_{};
  std::vector<JSAMPROW> rows_;
};

/// Round(a * b / 255), as Pillow computes it.
int product(int a, int b) {
  const int scaled = a * b + 128;
  return ((scaled >> 8) + scaled) >> 8;
}

/// Pillow's colours of inks. All files are taken to have their numbers turned around, 255 for no ink, as Adobe's have.
Image from_inks(const Image& inks, ColourMode mode) {
  Image colours(at::empty({inks.height(), inks.width(), 3}, at::kByte));
  const std::uint8_t* from = inks.pixels().const_data_ptr<std::uint8_t>();
  std::uint8_t* to = colours.at(0, 0);
  const bool blue_first = mode == ColourMode::bgr;
  for (std::int64_t i = inks.height() * inks.width(); i > 0; --i, from += 4, to += 3) {
    const int light = from[3];
    for (int channel = 0; channel < 3; ++channel)
      to[blue_first ? 2 - channel : channel] = static_cast<std::uint8_t>(light - product(255 - from[channel], light));
  }
  return mode == ColourMode::grey ? grey_of(colours) : colours;
}

}  // namespace

Image decode_jpeg(std::string_view bytes, const DecodeOptions& options, const std::filesystem::path& source) {
  JpegDecoder decoder(bytes, source);
  decoder.read_header(options.mode, options.least_side);
  check_image_size(decoder.height(), decoder.width(), options, source);
  Image image = make_image(decoder.output_height(), decoder.output_width(), decoder.channels(), options, source);
  const int orientation = options.apply_orientation ? decoder.orientation() : 1;
  decoder.read_pixels(image);
  return oriented(decoder.has_inks() ? from_inks(image, options.mode) : image, orientation);
}

ImageSize jpeg_size(std::string_view bytes, const DecodeOptions& options, const std::filesystem::path& source) {
  JpegDecoder decoder(bytes, source);
  decoder.read_header(ColourMode::as_stored, 0);
  check_image_size(decoder.height(), decoder.width(), options, source);
  const auto height = static_cast<std::int64_t>(decoder.height()), width = static_cast<std::int64_t>(decoder.width());
  return is_turned(decoder.orientation()) ? ImageSize{width, height} : ImageSize{height, width};
}

}  // namespace treadle

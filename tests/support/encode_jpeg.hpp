#pragma once

#include <treadle/image/image.hpp>

#include <cstdio>
#include <cstdlib>
#include <functional>
#include <string>

#include <jpeglib.h>

namespace treadle {

/// The picture as a JPEG file of good quality; four channels are inks. `adjust` sees what else the file is to be. Needs libjpeg.
inline std::string encode_jpeg(const Image& image, bool progressive = false, int quality = 95,
                               const std::function<void(jpeg_compress_struct&)>& adjust = {}) {
  jpeg_compress_struct info{};
  jpeg_error_mgr errors{};
  info.err = jpeg_std_error(&errors);
  jpeg_create_compress(&info);
  unsigned char* bytes = nullptr;
  unsigned long size = 0;
  jpeg_mem_dest(&info, &bytes, &size);
  info.image_height = static_cast<JDIMENSION>(image.height());
  info.image_width = static_cast<JDIMENSION>(image.width());
  info.input_components = static_cast<int>(image.channels());
  info.in_color_space = image.channels() == 1 ? JCS_GRAYSCALE : image.channels() == 4 ? JCS_CMYK : JCS_RGB;
  jpeg_set_defaults(&info);
  jpeg_set_quality(&info, quality, TRUE);
  if (progressive) jpeg_simple_progression(&info);
  if (adjust) adjust(info);
  jpeg_start_compress(&info, TRUE);
  while (info.next_scanline < info.image_height) {
    auto* row = const_cast<std::uint8_t*>(image.at(info.next_scanline, 0));
    jpeg_write_scanlines(&info, &row, 1);
  }
  jpeg_finish_compress(&info);
  jpeg_destroy_compress(&info);
  std::string encoded(reinterpret_cast<char*>(bytes), size);
  std::free(bytes);
  return encoded;
}

/// A number of `size` bytes, the most significant first.
inline std::string big_endian(std::size_t value, int size) {
  std::string bytes;
  for (int shift = 8 * (size - 1); shift >= 0; shift -= 8) bytes += static_cast<char>(value >> shift & 0xff);
  return bytes;
}

/// Exif data that holds an orientation behind another tag, in either byte order.
inline std::string exif_data(int orientation, bool little_endian = false) {
  const auto number = [&](std::size_t value, int size) {
    const std::string bytes = big_endian(value, size);
    return little_endian ? std::string(bytes.rbegin(), bytes.rend()) : bytes;
  };
  const auto entry = [&](std::size_t tag, std::size_t value) {
    return number(tag, 2) + number(3, 2) + number(1, 4) + number(value, 2) + number(0, 2);
  };
  return (little_endian ? "II" : "MM") + number(42, 2) + number(8, 4) + number(2, 2) + entry(0x0100, 7) +
         entry(0x0112, static_cast<std::size_t>(orientation)) + number(0, 4);
}

/// A segment APP1, as it stands behind the first two bytes of a JPEG file.
inline std::string app1(const std::string& content) { return "\xff\xe1" + big_endian(content.size() + 2, 2) + content; }

inline std::string with_exif(const std::string& jpeg, const std::string& exif) {
  return jpeg.substr(0, 2) + app1(std::string("Exif\0\0", 6) + exif) + jpeg.substr(2);
}

}  // namespace treadle

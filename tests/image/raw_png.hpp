#pragma once

#include <png.h>

#include <array>
#include <functional>
#include <span>
#include <string>
#include <vector>

namespace treadle {

inline constexpr std::array<png_color, 2> kTwoColours = {{{10, 20, 30}, {200, 100, 50}}};

/// A PNG of any kind libpng can write, one row of raw samples after the other. `adjust` sees what else the file is to be.
inline std::string encode_raw_png(int height, int width, int depth, int type, std::string raw, bool interlaced = false,
                                  std::span<const png_color> palette = kTwoColours,
                                  const std::function<void(png_structp, png_infop)>& adjust = {}) {
  std::string bytes;
  png_structp png = png_create_write_struct(PNG_LIBPNG_VER_STRING, nullptr, nullptr, nullptr);
  png_infop info = png_create_info_struct(png);
  png_set_write_fn(
      png, &bytes,
      [](png_structp p, png_bytep data, std::size_t count) {
        static_cast<std::string*>(png_get_io_ptr(p))->append(reinterpret_cast<char*>(data), count);
      },
      nullptr);
  png_set_IHDR(png, info, static_cast<png_uint_32>(width), static_cast<png_uint_32>(height), depth, type,
               interlaced ? PNG_INTERLACE_ADAM7 : PNG_INTERLACE_NONE, PNG_COMPRESSION_TYPE_DEFAULT, PNG_FILTER_TYPE_DEFAULT);
  if (adjust) adjust(png, info);
  if (type == PNG_COLOR_TYPE_PALETTE) png_set_PLTE(png, info, palette.data(), static_cast<int>(palette.size()));
  png_write_info(png, info);
  std::vector<png_bytep> rows;
  const std::size_t row_bytes = raw.size() / static_cast<std::size_t>(height);
  for (int row = 0; row < height; ++row)
    rows.push_back(reinterpret_cast<png_bytep>(raw.data()) + static_cast<std::size_t>(row) * row_bytes);
  png_write_image(png, rows.data());
  png_write_end(png, info);
  png_destroy_write_struct(&png, &info);
  return bytes;
}

}  // namespace treadle

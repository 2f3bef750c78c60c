#pragma once

#include <treadle/image/image.hpp>

namespace treadle {

/// Both expect bytes that begin as such a file does.
Image decode_png(std::string_view bytes, const DecodeOptions& options, const std::filesystem::path& source);
Image decode_jpeg(std::string_view bytes, const DecodeOptions& options, const std::filesystem::path& source);
/// What `decode_…` with no options but `max_pixels` would give.
ImageSize png_size(std::string_view bytes, const DecodeOptions& options, const std::filesystem::path& source);
ImageSize jpeg_size(std::string_view bytes, const DecodeOptions& options, const std::filesystem::path& source);

/// FormatError when a picture of this size is empty or larger than `options` allow.
void check_image_size(std::uint64_t height, std::uint64_t width, const DecodeOptions& options,
                      const std::filesystem::path& source);
/// The grey of an RGB picture, rounded as Pillow's `convert("L")` does it.
Image grey_of(const Image& rgb);
/// A picture with undefined pixels; FormatError when it is empty or larger than `options` allow.
Image make_image(std::uint64_t height, std::uint64_t width, int channels, const DecodeOptions& options,
                 const std::filesystem::path& source);

}  // namespace treadle

#pragma once

#include <treadle/image/image.hpp>

namespace treadle {

/// Both expect bytes that begin as such a file does.
Image decode_png(std::string_view bytes, const DecodeOptions& options, const std::filesystem::path& source);
Image decode_jpeg(std::string_view bytes, const DecodeOptions& options, const std::filesystem::path& source);

/// A picture with undefined pixels; FormatError when it is empty or larger than `options` allow.
Image make_image(std::uint64_t height, std::uint64_t width, int channels, const DecodeOptions& options,
                 const std::filesystem::path& source);

}  // namespace treadle

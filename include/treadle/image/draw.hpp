#pragma once

#include <treadle/image/image.hpp>

#include <array>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace treadle {

/// Red, green, blue.
using Colour = std::array<std::uint8_t, 3>;

/// The room of one character in pixels before scaling, with the gap to its right and below it.
inline constexpr std::int64_t glyph_width = 6, glyph_height = 8;

/// Writes `text` in a fixed font of 5 x 7 pixels, each `scale` pixels wide, its top left corner at (top, left) of an RGB picture;
/// what lies outside is cut off. Characters other than printable ASCII show as a box. Throws FormatError when `image` is not RGB.
void draw_text(Image& image, std::int64_t top, std::int64_t left, std::string_view text, Colour colour, std::int64_t scale = 1);

/// The picture in RGB with every pixel `factor` x `factor` large. Throws ConfigError unless factor is at least 1.
Image enlarge(const Image& image, std::int64_t factor);

/// One picture of a contact sheet with a frame and a line of text under it.
struct SheetEntry {
  Image image;
  std::string caption{};
  Colour border{160, 160, 160};
};

struct SheetOptions {
  std::int64_t columns = 8;     ///< pictures per row; at least 1
  std::int64_t scale = 3;       ///< enlargement of the pictures; at least 1
  std::int64_t border = 3;      ///< width of the frames in pixels; at least 0
  std::int64_t gap = 8;         ///< pixels between the pictures and around the sheet; at least 0
  std::int64_t text_scale = 1;  ///< enlargement of the text; at least 1
  std::string title{};          ///< a line above the pictures; may be empty
  Colour background{255, 255, 255};
  Colour text{0, 0, 0};
};
void validate(const SheetOptions& options);

/// Small pictures in rows, each in a cell as large as the largest, with its caption under it (cut off at the width of the cell):
/// to look at the mistakes of a classifier, for instance. Pictures of any size and number of channels; RGB comes out. Throws
/// ConfigError when there is no entry.
Image contact_sheet(const std::vector<SheetEntry>& entries, const SheetOptions& options = {});

}  // namespace treadle

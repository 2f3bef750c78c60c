#pragma once

namespace treadle {

/// True when the pixel (row, column) of `character` is set; 7 rows, 5 columns. Characters other than printable ASCII are a box.
bool glyph_pixel(char character, int row, int column) noexcept;

}  // namespace treadle

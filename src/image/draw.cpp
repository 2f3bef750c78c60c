#include <treadle/base/errors.hpp>
#include <treadle/image/draw.hpp>

#include <fmt/format.h>

#include <algorithm>

#include "image/font.hpp"

namespace treadle {

namespace {

/// Fills the rectangle with its corner at (top, left), as far as it lies inside.
void fill(Image& image, std::int64_t top, std::int64_t left, std::int64_t height, std::int64_t width, Colour colour) {
  for (std::int64_t row = std::max<std::int64_t>(top, 0); row < std::min(top + height, image.height()); ++row) {
    for (std::int64_t column = std::max<std::int64_t>(left, 0); column < std::min(left + width, image.width()); ++column) {
      std::copy(colour.begin(), colour.end(), image.at(row, column));
    }
  }
}

/// Copies an RGB picture into another, in which it lies wholly.
void paste(Image& target, std::int64_t top, std::int64_t left, const Image& image) {
  for (std::int64_t row = 0; row < image.height(); ++row) {
    std::copy_n(image.at(row, 0), image.width() * image.channels(), target.at(top + row, left));
  }
}

Image blank(std::int64_t height, std::int64_t width, Colour colour) {
  return Image(height, width, {colour[0], colour[1], colour[2]});
}

/// Where everything on a sheet goes.
struct Layout {
  std::int64_t picture_height = 0, picture_width = 0;  // of the largest picture, enlarged
  std::int64_t cell_height = 0, cell_width = 0;        // with frame, caption and gap
  std::int64_t top = 0;                                // of the first row of cells
  std::int64_t height = 0, width = 0;                  // of the sheet
};

Layout lay_out(const std::vector<SheetEntry>& entries, const SheetOptions& options) {
  Layout layout;
  bool captions = false;
  for (const SheetEntry& entry : entries) {
    layout.picture_height = std::max(layout.picture_height, entry.image.height() * options.scale);
    layout.picture_width = std::max(layout.picture_width, entry.image.width() * options.scale);
    captions = captions || !entry.caption.empty();
  }
  const std::int64_t line = (glyph_height + 2) * options.text_scale;
  layout.cell_height = layout.picture_height + 2 * options.border + (captions ? line : 0) + options.gap;
  layout.cell_width = layout.picture_width + 2 * options.border + options.gap;
  layout.top = options.gap + (options.title.empty() ? 0 : line + options.gap);
  const auto count = static_cast<std::int64_t>(entries.size());
  const std::int64_t columns = std::min(options.columns, count), rows = (count + columns - 1) / columns;
  layout.height = layout.top + rows * layout.cell_height;
  layout.width = options.gap + columns * layout.cell_width;
  return layout;
}

std::string_view shortened(std::string_view text, std::int64_t width, std::int64_t scale) {
  return text.substr(0, static_cast<std::size_t>(width / (glyph_width * scale)));
}

void draw_entry(Image& sheet, std::int64_t top, std::int64_t left, const SheetEntry& entry, const Layout& layout,
                const SheetOptions& options) {
  const Image picture = enlarge(entry.image, options.scale);
  fill(sheet, top, left, picture.height() + 2 * options.border, picture.width() + 2 * options.border, entry.border);
  paste(sheet, top + options.border, left + options.border, picture);
  const std::int64_t below = top + layout.picture_height + 2 * options.border + 2 * options.text_scale;
  draw_text(sheet, below, left, shortened(entry.caption, layout.cell_width, options.text_scale), options.text,
            options.text_scale);
}

}  // namespace

void draw_text(Image& image, std::int64_t top, std::int64_t left, std::string_view text, Colour colour, std::int64_t scale) {
  if (image.channels() != 3) throw FormatError(fmt::format("text needs an RGB picture, found {} channels", image.channels()));
  if (scale < 1) throw ConfigError(fmt::format("the scale of a text must be at least 1, found {}", scale), "scale");
  for (char character : text) {
    for (int row = 0; row < 7; ++row) {
      for (int column = 0; column < 5; ++column) {
        if (glyph_pixel(character, row, column)) fill(image, top + row * scale, left + column * scale, scale, scale, colour);
      }
    }
    left += glyph_width * scale;
  }
}

Image enlarge(const Image& image, std::int64_t factor) {
  if (factor < 1) throw ConfigError(fmt::format("the factor of an enlargement must be at least 1, found {}", factor), "factor");
  Image large = blank(image.height() * factor, image.width() * factor, {});
  const bool grey = image.channels() == 1;
  for (std::int64_t row = 0; row < large.height(); ++row) {
    for (std::int64_t column = 0; column < large.width(); ++column) {
      const std::uint8_t* from = image.at(row / factor, column / factor);
      std::uint8_t* to = large.at(row, column);
      for (int channel = 0; channel < 3; ++channel) to[channel] = from[grey ? 0 : channel];
    }
  }
  return large;
}

void validate(const SheetOptions& options) {
  auto require = [](std::int64_t found, std::int64_t least, const char* key) {
    if (found < least) throw ConfigError(fmt::format("{} must be at least {}, found {}", key, least, found), key);
  };
  require(options.columns, 1, "SheetOptions.columns");
  require(options.scale, 1, "SheetOptions.scale");
  require(options.border, 0, "SheetOptions.border");
  require(options.gap, 0, "SheetOptions.gap");
  require(options.text_scale, 1, "SheetOptions.text_scale");
}

Image contact_sheet(const std::vector<SheetEntry>& entries, const SheetOptions& options) {
  validate(options);
  if (entries.empty()) throw ConfigError("a contact sheet needs at least one picture", "entries");
  const Layout layout = lay_out(entries, options);
  Image sheet = blank(layout.height, layout.width, options.background);
  draw_text(sheet, options.gap, options.gap, options.title, options.text, options.text_scale);
  for (std::size_t i = 0; i < entries.size(); ++i) {
    const auto number = static_cast<std::int64_t>(i);
    draw_entry(sheet, layout.top + number / options.columns * layout.cell_height,
               options.gap + number % options.columns * layout.cell_width, entries[i], layout, options);
  }
  return sheet;
}

}  // namespace treadle

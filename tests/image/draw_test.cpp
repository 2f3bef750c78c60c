#include <treadle/base/errors.hpp>
#include <treadle/image/draw.hpp>

#include <ATen/ops/equal.h>
#include <ATen/ops/zeros.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <set>

namespace treadle {
namespace {

constexpr Colour white{255, 255, 255}, black{0, 0, 0}, red{255, 0, 0};

Image canvas(std::int64_t height, std::int64_t width) { return Image(height, width, {255, 255, 255}); }

Colour colour_at(const Image& image, std::int64_t row, std::int64_t column) {
  const std::uint8_t* pixel = image.at(row, column);
  return {pixel[0], pixel[1], pixel[2]};
}

/// The picture as text: '#' where it is not white.
std::string as_text(const Image& image) {
  std::string text;
  for (std::int64_t row = 0; row < image.height(); ++row) {
    for (std::int64_t column = 0; column < image.width(); ++column) text += colour_at(image, row, column) == white ? '.' : '#';
    text += '\n';
  }
  return text;
}

std::string drawn(std::string_view characters, std::int64_t scale = 1) {
  Image image = canvas(glyph_height * scale, glyph_width * scale * static_cast<std::int64_t>(characters.size()));
  draw_text(image, 0, 0, characters, black, scale);
  return as_text(image);
}

TEST(DrawText, DrawsCharacters) {
  EXPECT_EQ(drawn("T1"),
            "#####...#...\n"
            "..#....##...\n"
            "..#.....#...\n"
            "..#.....#...\n"
            "..#.....#...\n"
            "..#.....#...\n"
            "..#....###..\n"
            "............\n");
}

TEST(DrawText, EveryPrintableCharacterLooksDifferent) {
  std::set<std::string> seen;
  for (char character = ' '; character <= '~'; ++character) EXPECT_TRUE(seen.insert(drawn({&character, 1})).second) << character;
  const std::string box = drawn("\x01");
  EXPECT_TRUE(seen.insert(box).second);
  EXPECT_EQ(drawn("\xc3"), box);
}

TEST(DrawText, ScalesAndStaysInside) {
  Image large = canvas(16, 12), small = canvas(8, 6);
  draw_text(large, 0, 0, "R", black, 2);
  draw_text(small, 0, 0, "R", black);
  EXPECT_TRUE(at::equal(large.pixels(), enlarge(small, 2).pixels()));
  Image cut = canvas(4, 4);
  draw_text(cut, -2, -3, "RRRR", black);
  draw_text(cut, 100, 100, "R", black);
  EXPECT_NE(as_text(cut), as_text(canvas(4, 4)));
  Image grey(4, 4, {0});
  EXPECT_THROW(draw_text(grey, 0, 0, "R", black), FormatError);
  EXPECT_THROW(draw_text(cut, 0, 0, "R", black, 0), ConfigError);
}

TEST(Enlarge, RepeatsPixelsInRgb) {
  Image grey(1, 2, {0});
  *grey.at(0, 1) = 9;
  const Image large = enlarge(grey, 3);
  EXPECT_EQ(large.pixels().sizes(), (std::vector<std::int64_t>{3, 6, 3}));
  for (std::int64_t row = 0; row < 3; ++row) {
    for (std::int64_t column = 0; column < 6; ++column) {
      const std::uint8_t level = column < 3 ? 0 : 9;
      EXPECT_EQ(colour_at(large, row, column), (Colour{level, level, level}));
    }
  }
  EXPECT_EQ(colour_at(enlarge(Image(1, 1, {1, 2, 3, 4}), 1), 0, 0), (Colour{1, 2, 3}));
  EXPECT_THROW(enlarge(grey, 0), ConfigError);
}

TEST(ContactSheet, PutsPicturesInFramesInRows) {
  std::vector<SheetEntry> entries(5, {.image = Image(2, 3, {7}), .border = red});
  const SheetOptions options{.columns = 2, .scale = 2, .border = 1, .gap = 4};
  const Image sheet = contact_sheet(entries, options);
  // Each cell: a picture of 4 x 6, its frame, a gap; no captions, no title.
  EXPECT_EQ(sheet.height(), 4 + 3 * (4 + 2 + 4));
  EXPECT_EQ(sheet.width(), 4 + 2 * (6 + 2 + 4));
  int framed = 0, inside = 0, background = 0;
  for (std::int64_t row = 0; row < sheet.height(); ++row) {
    for (std::int64_t column = 0; column < sheet.width(); ++column) {
      const Colour colour = colour_at(sheet, row, column);
      framed += colour == red, inside += colour == Colour{7, 7, 7}, background += colour == white;
    }
  }
  EXPECT_EQ(inside, 5 * 4 * 6);
  EXPECT_EQ(framed, 5 * (6 * 8 - 4 * 6));
  EXPECT_EQ(background, sheet.height() * sheet.width() - framed - inside);
  EXPECT_EQ(colour_at(sheet, 4, 4), red);
  EXPECT_EQ(colour_at(sheet, 5, 5), (Colour{7, 7, 7}));
  EXPECT_EQ(colour_at(sheet, 4 + 10, 4 + 12), red) << "the second row's second picture";
}

TEST(ContactSheet, CaptionsAndTitleTakeRoomAndAreCutToTheirCell) {
  const Image picture(10, 30, {0});
  const SheetOptions plain{.columns = 1, .scale = 1, .border = 0, .gap = 2};
  SheetOptions titled = plain;
  titled.title = "T";
  titled.text = red;
  const Image without = contact_sheet({{.image = picture}}, plain),
              with = contact_sheet({{.image = picture, .caption = "a"}}, plain),
              above = contact_sheet({{.image = picture}}, titled);
  EXPECT_EQ(with.height(), without.height() + glyph_height + 2);
  EXPECT_EQ(above.height(), without.height() + glyph_height + 2 + plain.gap);
  EXPECT_EQ(colour_at(above, 2, 2), red) << "the T's left end";
  const std::string wide(100, 'W');
  Image two =
      contact_sheet({{.image = picture, .caption = wide}, {.image = picture}}, {.columns = 2, .scale = 1, .border = 0, .gap = 2});
  for (std::int64_t row = 13; row < two.height(); ++row) {
    for (std::int64_t column = 34; column < two.width(); ++column) EXPECT_EQ(colour_at(two, row, column), white);
  }
}

TEST(ContactSheet, TakesPicturesOfUnequalSizesAndItsOptions) {
  const SheetOptions options{
      .columns = 8, .scale = 1, .border = 2, .gap = 1, .text_scale = 2, .background = {0, 0, 9}, .text = red};
  const Image sheet = contact_sheet({{.image = Image(4, 4, {1}), .caption = "a"}, {.image = Image(8, 2, {1, 2, 3})}}, options);
  EXPECT_EQ(sheet.height(), 1 + 8 + 4 + 2 * (glyph_height + 2) + 1);
  EXPECT_EQ(sheet.width(), 1 + 2 * (4 + 4 + 1));
  EXPECT_EQ(colour_at(sheet, 0, 0), (Colour{0, 0, 9}));
  EXPECT_EQ(colour_at(sheet, 3, 1 + 9 + 2), (Colour{1, 2, 3}));
  EXPECT_THROW(contact_sheet({}, options), ConfigError);
}

TEST(SheetOptions, AreValidated) {
  auto key = [](SheetOptions options) {
    try {
      validate(options);
    } catch (const ConfigError& error) {
      return error.key();
    }
    return std::string("none");
  };
  EXPECT_EQ(key({.columns = 0}), "SheetOptions.columns");
  EXPECT_EQ(key({.scale = 0}), "SheetOptions.scale");
  EXPECT_EQ(key({.border = -1}), "SheetOptions.border");
  EXPECT_EQ(key({.gap = -1}), "SheetOptions.gap");
  EXPECT_EQ(key({.text_scale = 0}), "SheetOptions.text_scale");
  EXPECT_EQ(key({}), "none");
}

// To look at with one's own eyes: TREADLE_SHOW=sheet.png.
TEST(ContactSheet, CanBeLookedAt) {
  std::vector<SheetEntry> entries;
  for (int i = 0; i < 12; ++i) {
    Image image(28, 28, {static_cast<std::uint8_t>(20 * i)});
    for (std::int64_t j = 0; j < 28; ++j) *image.at(j, (j * (i + 1)) % 28) = 255;
    entries.push_back({.image = image, .caption = "Shirt > Coat 91%", .border = i % 2 ? red : Colour{0, 160, 0}});
  }
  std::string alphabet;
  for (char character = ' '; character <= '~'; ++character) alphabet += character;
  const Image sheet = contact_sheet(entries, {.columns = 6, .title = alphabet});
  EXPECT_FALSE(encode_png(sheet).empty());
  if (const char* path = std::getenv("TREADLE_SHOW")) save_png(sheet, path);
}

}  // namespace
}  // namespace treadle

#include <tests/image/raw_png.hpp>
#include <tests/support/encode_jpeg.hpp>
#include <treadle/base/errors.hpp>
#include <treadle/image/image.hpp>

#include <ATen/ops/flip.h>
#include <ATen/ops/tensor.h>
#include <gtest/gtest.h>

#include <array>
#include <vector>

namespace treadle {
namespace {

using Colour = std::array<int, 3>;

/// Pillow's "L".
int luma(const Colour& rgb) { return (rgb[0] * 19595 + rgb[1] * 38470 + rgb[2] * 7471 + 0x8000) >> 16; }

const std::vector<Colour> kColours = {{0, 0, 0},     {255, 255, 255}, {255, 0, 0},   {0, 255, 0},  {0, 0, 255},
                                      {200, 30, 90}, {12, 250, 130},  {77, 76, 199}, {1, 128, 254}};

/// A row of kColours, with what the chunks say about their meaning.
std::string png_row(int type, bool srgb, double gamma) {
  std::vector<png_color> palette;
  std::string row;
  for (const Colour& colour : kColours) {
    palette.push_back({static_cast<png_byte>(colour[0]), static_cast<png_byte>(colour[1]), static_cast<png_byte>(colour[2])});
    if (type == PNG_COLOR_TYPE_PALETTE) {
      row += static_cast<char>(palette.size() - 1);
      continue;
    }
    for (const int value : colour) row += static_cast<char>(value);
    if (type == PNG_COLOR_TYPE_RGBA) row += '\x40';
  }
  return encode_raw_png(1, static_cast<int>(kColours.size()), 8, type, row, /*interlaced=*/false, palette,
                        [&](png_structp png, png_infop info) {
                          if (srgb) png_set_sRGB_gAMA_and_cHRM(png, info, PNG_sRGB_INTENT_PERCEPTUAL);
                          if (gamma > 0) png_set_gAMA(png, info, gamma);
                        });
}

TEST(Png, GreyIsThatOfTheNumbersStoredWhateverTheChunksSay) {
  struct Chunks {
    bool srgb;
    double gamma;
  };
  for (const int type : {PNG_COLOR_TYPE_RGB, PNG_COLOR_TYPE_RGBA, PNG_COLOR_TYPE_PALETTE}) {
    for (const Chunks& chunks : {Chunks{false, 0}, Chunks{true, 0}, Chunks{false, 1 / 2.2}, Chunks{false, 1}}) {
      const Image grey = decode_image(png_row(type, chunks.srgb, chunks.gamma), {.mode = ColourMode::grey});
      ASSERT_EQ(grey.channels(), 1);
      for (std::size_t i = 0; i < kColours.size(); ++i) {
        EXPECT_EQ(*grey.at(0, static_cast<std::int64_t>(i)), luma(kColours[i]))
            << "colour " << i << " of type " << type << ", gamma " << chunks.gamma;
      }
    }
  }
}

using Inks = std::array<int, 4>;

struct InkFile {
  bool adobe_marker;
  bool ycck;
};

/// A picture of one colour, whose four numbers are stored as they are.
std::string encode_inks(const Inks& stored, const InkFile& kind) {
  const at::Tensor inks = at::tensor(std::vector<int>(stored.begin(), stored.end())).to(at::kByte);
  return encode_jpeg(Image(inks.expand({9, 16, 4}).contiguous()), /*progressive=*/false, /*quality=*/100,
                     [&](jpeg_compress_struct& info) {
                       jpeg_set_colorspace(&info, kind.ycck ? JCS_YCCK : JCS_CMYK);
                       info.write_Adobe_marker = kind.adobe_marker ? TRUE : FALSE;
                     });
}

/// Pillow reads every such file as "CMYK;I", 255 - x; then its convert("RGB"), in whole numbers.
Colour rgb_of_inks(const Inks& stored) {
  Colour rgb{};
  const int light = 255 - (255 - stored[3]);
  for (std::size_t i = 0; i < 3; ++i) {
    const int product = (255 - stored[i]) * light + 128;
    rgb[i] = std::max(0, light - (((product >> 8) + product) >> 8));
  }
  return rgb;
}

TEST(Jpeg, InksBecomeColoursAsPillowDoesIt) {
  for (const Inks& stored : {Inks{255, 255, 255, 255}, Inks{0, 0, 0, 0}, Inks{255, 255, 255, 0}, Inks{20, 200, 120, 255},
                             Inks{240, 70, 10, 128}, Inks{99, 100, 101, 200}}) {
    const Colour rgb = rgb_of_inks(stored);
    for (const InkFile& kind : {InkFile{true, false}, InkFile{false, false}, InkFile{true, true}}) {
      const std::string jpeg = encode_inks(stored, kind);
      const int rounding = kind.ycck ? 3 : 1;
      const Image plain = decode_image(jpeg), grey = decode_image(jpeg, {.mode = ColourMode::grey});
      ASSERT_EQ(plain.pixels().sizes(), (at::IntArrayRef{9, 16, 3}));
      ASSERT_EQ(grey.pixels().sizes(), (at::IntArrayRef{9, 16, 1}));
      for (std::size_t i = 0; i < 3; ++i) EXPECT_NEAR(plain.at(8, 15)[i], rgb[i], rounding) << "channel " << i;
      const std::uint8_t* found = plain.at(4, 3);
      EXPECT_EQ(*grey.at(4, 3), luma({found[0], found[1], found[2]}));
      EXPECT_TRUE(decode_image(jpeg, {.mode = ColourMode::rgb}).pixels().equal(plain.pixels()));
      EXPECT_TRUE(decode_image(jpeg, {.mode = ColourMode::bgr}).pixels().equal(plain.pixels().flip({2})));
      EXPECT_EQ(decode_image(jpeg, {.least_side = 5}).height(), 5) << "9 / 2, rounded up";
    }
  }
}

TEST(Jpeg, AFileOfInksThatIsCutOffIsAnError) {
  const std::string whole = encode_inks({20, 200, 120, 255}, {true, true});
  for (std::size_t size = 0; size < whole.size(); ++size)
    EXPECT_THROW(decode_image(whole.substr(0, size)), FormatError) << size << " of " << whole.size();
}

}  // namespace
}  // namespace treadle

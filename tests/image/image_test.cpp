#include <tests/image/raw_png.hpp>
#include <treadle/base/errors.hpp>
#include <treadle/image/image.hpp>

#include <ATen/ops/arange.h>
#include <ATen/ops/equal.h>
#include <ATen/ops/full.h>
#include <ATen/ops/zeros.h>
#include <gtest/gtest.h>

#include <rapidcheck/gtest.h>

#include <cmath>
#include <filesystem>
#include <fstream>

#include "tests/support/encode_jpeg.hpp"

namespace treadle {
namespace {

namespace fs = std::filesystem;

Image noise(std::int64_t height, std::int64_t width, std::int64_t channels) {
  return Image(at::arange(height * width * channels).mul(37).remainder(251).to(at::kByte).view({height, width, channels}));
}

/// A picture without sharp edges, which JPEG keeps nearly as it is.
Image smooth(std::int64_t height, std::int64_t width, std::int64_t channels) {
  Image image(at::zeros({height, width, channels}, at::kByte));
  for (std::int64_t row = 0; row < height; ++row) {
    for (std::int64_t column = 0; column < width; ++column) {
      for (std::int64_t channel = 0; channel < channels; ++channel) {
        image.at(row, column)[channel] = static_cast<std::uint8_t>(40 + 3 * row + 2 * column + 20 * channel);
      }
    }
  }
  return image;
}

std::vector<int> values(const Image& image) {
  const auto* begin = image.pixels().const_data_ptr<std::uint8_t>();
  return {begin, begin + image.pixels().numel()};
}

bool equal(const Image& a, const Image& b) { return at::equal(a.pixels(), b.pixels()); }

RC_GTEST_PROP(Png, ComesBackAsItWas, ()) {
  const auto channels = *rc::gen::element<std::int64_t>(1, 3, 4);
  const Image image = noise(*rc::gen::inRange<std::int64_t>(1, 40), *rc::gen::inRange<std::int64_t>(1, 40), channels);
  RC_ASSERT(equal(decode_image(encode_png(image)), image));
}

TEST(Png, EveryKindBecomesEightBits) {
  using V = std::vector<int>;
  EXPECT_EQ(values(decode_image(encode_raw_png(1, 4, 1, PNG_COLOR_TYPE_GRAY, "\x50"))), (V{0, 255, 0, 255}));
  EXPECT_EQ(values(decode_image(encode_raw_png(1, 2, 16, PNG_COLOR_TYPE_GRAY, std::string("\xff\xff\x80\x80", 4)))),
            (V{255, 128}));
  EXPECT_EQ(values(decode_image(encode_raw_png(1, 8, 1, PNG_COLOR_TYPE_PALETTE, "\x40"))),
            (V{10, 20, 30, 200, 100, 50, 10, 20, 30, 10, 20, 30, 10, 20, 30, 10, 20, 30, 10, 20, 30, 10, 20, 30}));
  EXPECT_EQ(values(decode_image(encode_raw_png(1, 1, 8, PNG_COLOR_TYPE_GRAY_ALPHA, "\x07\x09"))), (V{7, 7, 7, 9}));
  std::string raw(9 * 9, '\0');
  for (std::size_t i = 0; i < raw.size(); ++i) raw[i] = static_cast<char>(i);
  EXPECT_EQ(values(decode_image(encode_raw_png(9, 9, 8, PNG_COLOR_TYPE_GRAY, raw, true))),
            values(decode_image(encode_raw_png(9, 9, 8, PNG_COLOR_TYPE_GRAY, raw, false))));
}

TEST(Decode, ConvertsToTheChannelsItIsAskedFor) {
  for (std::int64_t channels : {1, 3, 4}) {
    const std::string bytes = encode_png(Image(at::full({2, 2, channels}, 90, at::kByte)));
    EXPECT_EQ(decode_image(bytes).channels(), channels);
    const Image grey = decode_image(bytes, {.mode = ColourMode::grey}), rgb = decode_image(bytes, {.mode = ColourMode::rgb});
    EXPECT_EQ(grey.channels(), 1);
    EXPECT_EQ(rgb.channels(), 3);
    EXPECT_TRUE(grey.pixels().eq(90).all().item<bool>());
    EXPECT_TRUE(rgb.pixels().eq(90).all().item<bool>());
  }
  for (std::int64_t channels : {1, 3}) {
    const std::string bytes = encode_jpeg(smooth(8, 8, channels));
    EXPECT_EQ(decode_image(bytes).channels(), channels);
    EXPECT_EQ(decode_image(bytes, {.mode = ColourMode::grey}).channels(), 1);
    EXPECT_EQ(decode_image(bytes, {.mode = ColourMode::rgb}).channels(), 3);
    EXPECT_TRUE(decode_image(bytes, {.mode = ColourMode::bgr})
                    .pixels()
                    .equal(decode_image(bytes, {.mode = ColourMode::rgb}).pixels().flip({2})));
  }
}

TEST(Jpeg, IsDecodedNearlyAsItWas) {
  for (std::int64_t channels : {1, 3}) {
    const Image image = smooth(23, 37, channels), found = decode_image(encode_jpeg(image));
    ASSERT_EQ(found.pixels().sizes(), image.pixels().sizes());
    EXPECT_LE(found.pixels().to(at::kInt).sub(image.pixels().to(at::kInt)).abs().max().item<int>(), 8);
  }
}

TEST(Decode, EveryCutIsAnError) {
  for (const std::string& whole : {encode_png(noise(9, 7, 3)), encode_jpeg(smooth(9, 7, 3))}) {
    for (std::size_t size = 0; size < whole.size(); ++size) {
      EXPECT_THROW(decode_image(whole.substr(0, size)), FormatError) << size << " of " << whole.size();
    }
  }
}

// A damaged file is an error or another picture, never a crash; run under the address sanitizer it also reads nothing it should
// not.
TEST(Decode, DamagedFilesAreErrorsOrPictures) {
  int refused = 0;
  for (const std::string& whole : {encode_png(noise(9, 7, 3)), encode_jpeg(smooth(9, 7, 3)), encode_png(noise(9, 7, 1))}) {
    for (std::size_t place = 0; place < whole.size(); ++place) {
      for (int change : {0x01, 0x80, 0xff}) {
        std::string damaged = whole;
        damaged[place] = static_cast<char>(damaged[place] ^ change);
        try {
          decode_image(damaged, {.max_pixels = 1 << 16});
        } catch (const FormatError&) {
          ++refused;
        }
      }
    }
  }
  EXPECT_GT(refused, 1000);
}

TEST(Decode, TheErrorNamesFileAndPlace) {
  std::string png = encode_png(noise(9, 7, 3));
  png[png.size() / 2] = static_cast<char>(~png[png.size() / 2]);
  try {
    decode_image(png, {}, "broken.png");
    ADD_FAILURE();
  } catch (const FormatError& error) {
    EXPECT_EQ(error.file(), "broken.png");
    EXPECT_GT(error.offset().value(), 40u);
    EXPECT_LE(error.offset().value(), png.size());
  }
  EXPECT_THROW(decode_image("GIF89a"), FormatError);
  EXPECT_THROW(decode_image(""), FormatError);
}

TEST(Decode, RefusesPicturesThatAreTooLarge) {
  for (const std::string& bytes : {encode_png(noise(8, 8, 1)), encode_jpeg(smooth(8, 8, 1))}) {
    EXPECT_THROW(decode_image(bytes, {.max_pixels = 63}), FormatError);
    EXPECT_NO_THROW(decode_image(bytes, {.max_pixels = 64}));
  }
  EXPECT_THROW(validate(DecodeOptions{.max_pixels = 0}), ConfigError);
  EXPECT_THROW(validate(DecodeOptions{.least_side = -1}), ConfigError);
}

class ImageFiles : public testing::Test {
 protected:
  ImageFiles() {
    std::string name = (fs::temp_directory_path() / "treadle-image-XXXXXX").string();
    if (!mkdtemp(name.data())) throw std::runtime_error("mkdtemp failed");
    folder_ = name;
  }
  ~ImageFiles() override { fs::remove_all(folder_); }
  fs::path folder_;
};

TEST_F(ImageFiles, AreSavedAndLoaded) {
  const Image image = noise(5, 6, 3);
  save_png(noise(2, 2, 1), folder_ / "a.png");
  save_png(image, folder_ / "a.png");
  EXPECT_TRUE(equal(load_image(folder_ / "a.png"), image));
  EXPECT_EQ(std::distance(fs::directory_iterator(folder_), {}), 1) << "no temporary file is left";
  std::ofstream(folder_ / "b.jpg", std::ios::binary) << encode_jpeg(smooth(5, 6, 3));
  EXPECT_EQ(load_image(folder_ / "b.jpg", {.mode = ColourMode::grey}).channels(), 1);
}

TEST_F(ImageFiles, ErrorsNameThem) {
  EXPECT_THROW(load_image(folder_ / "absent.png"), IoError);
  EXPECT_THROW(load_image(folder_), IoError);
  EXPECT_THROW(save_png(noise(2, 2, 1), folder_ / "absent" / "a.png"), IoError);
  fs::create_directory(folder_ / "taken");
  EXPECT_THROW(save_png(noise(2, 2, 1), folder_ / "taken"), IoError);
  EXPECT_EQ(std::distance(fs::directory_iterator(folder_), {}), 1) << "no temporary file is left";
  std::ofstream(folder_ / "text.png") << "text";
  try {
    load_image(folder_ / "text.png");
    ADD_FAILURE();
  } catch (const FormatError& error) {
    EXPECT_EQ(error.file(), folder_ / "text.png");
  }
}

TEST(Image, TakesOnlyPictures) {
  EXPECT_THROW(Image(at::zeros({2, 2, 2}, at::kByte)), FormatError);
  EXPECT_THROW(Image(at::zeros({2, 2}, at::kByte)), FormatError);
  EXPECT_THROW(Image(at::zeros({2, 2, 3})), FormatError);
  EXPECT_THROW(Image{at::Tensor()}, FormatError);
  EXPECT_THROW(encode_png(Image()), FormatError);
  const Image strided(at::arange(12).to(at::kByte).view({3, 2, 2}).permute({1, 2, 0}));
  EXPECT_TRUE(strided.pixels().is_contiguous());
  EXPECT_EQ(strided.at(0, 1)[2], 9);
  const Image colour(2, 3, {1, 2, 3});
  EXPECT_EQ(colour.height(), 2);
  EXPECT_EQ(colour.width(), 3);
  EXPECT_EQ(values(colour), (std::vector<int>{1, 2, 3, 1, 2, 3, 1, 2, 3, 1, 2, 3, 1, 2, 3, 1, 2, 3}));
}

}  // namespace
}  // namespace treadle

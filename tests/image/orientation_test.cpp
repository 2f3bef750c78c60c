#include <treadle/base/errors.hpp>
#include <treadle/image/image.hpp>

#include <ATen/ops/avg_pool2d.h>
#include <ATen/ops/equal.h>
#include <ATen/ops/zeros.h>
#include <gtest/gtest.h>
#include <zlib.h>

#include "tests/support/encode_jpeg.hpp"
#include "tests/support/temporary_folder.hpp"

namespace treadle {
namespace {

/// A picture without sharp edges, which JPEG keeps nearly as it is.
Image smooth(std::int64_t height, std::int64_t width) {
  Image image(at::zeros({height, width, 3}, at::kByte));
  for (std::int64_t row = 0; row < height; ++row) {
    for (std::int64_t column = 0; column < width; ++column) {
      for (std::int64_t channel = 0; channel < 3; ++channel)
        image.at(row, column)[channel] = static_cast<std::uint8_t>(20 + row + column + 20 * channel);
    }
  }
  return image;
}

std::string exif_chunk(const std::string& exif) {
  const std::string body = "eXIf" + exif;
  const auto crc = crc32(0, reinterpret_cast<const Bytef*>(body.data()), static_cast<uInt>(body.size()));
  return big_endian(exif.size(), 4) + body + big_endian(crc, 4);
}

std::string with_exif_chunk(const std::string& png, const std::string& exif) {
  constexpr std::size_t behind_header = 8 + 25;
  return png.substr(0, behind_header) + exif_chunk(exif) + png.substr(behind_header);
}

/// Where the pixel (row, column) of a stored picture is seen, by the table of the Exif standard: at which side of what is seen
/// its first row and its first column stand.
std::pair<std::int64_t, std::int64_t> seen_at(int orientation, std::int64_t row, std::int64_t column, const Image& stored) {
  const std::int64_t from_end_row = stored.height() - 1 - row, from_end_column = stored.width() - 1 - column;
  switch (orientation) {
    case 2:
      return {row, from_end_column};
    case 3:
      return {from_end_row, from_end_column};
    case 4:
      return {from_end_row, column};
    case 5:
      return {column, row};
    case 6:
      return {column, from_end_row};
    case 7:
      return {from_end_column, from_end_row};
    case 8:
      return {from_end_column, row};
    default:
      return {row, column};
  }
}

TEST(Orientation, PicturesAreSeenAsTheCameraWasHeld) {
  const Image picture = smooth(16, 24);
  const std::string jpeg = encode_jpeg(picture), png = encode_png(picture);
  for (int orientation = 0; orientation <= 9; ++orientation) {
    for (const std::string& file : {with_exif(jpeg, exif_data(orientation)), with_exif(jpeg, exif_data(orientation, true)),
                                    with_exif_chunk(png, exif_data(orientation))}) {
      const Image stored = decode_image(file, {.apply_orientation = false}), seen = decode_image(file);
      EXPECT_EQ(stored.height(), 16);
      const bool turned = orientation >= 5 && orientation <= 8;
      ASSERT_EQ(seen.height(), turned ? 24 : 16);
      for (std::int64_t row = 0; row < 16; ++row) {
        for (std::int64_t column = 0; column < 24; ++column) {
          const auto [seen_row, seen_column] = seen_at(orientation, row, column, stored);
          ASSERT_EQ(int{seen.at(seen_row, seen_column)[1]}, int{stored.at(row, column)[1]})
              << orientation << (file.starts_with("\x89") ? " PNG" : " JPEG");
        }
      }
    }
  }
}

TEST(Orientation, DamagedExifDataIsNoReasonToRefuseAPicture) {
  const std::string jpeg = encode_jpeg(smooth(8, 12)), exif = exif_data(6);
  const Image plain = decode_image(jpeg);
  for (std::size_t size = 0; size < exif.size(); ++size) {
    const Image image = decode_image(with_exif(jpeg, exif.substr(0, size)));
    if (size < 8 + 2 + 12 + 10) {
      EXPECT_TRUE(at::equal(image.pixels(), plain.pixels())) << size;
    }
  }
  for (std::size_t place = 0; place < exif.size(); ++place) {
    for (int change : {0x01, 0x80, 0xff}) {
      std::string damaged = exif;
      damaged[place] = static_cast<char>(damaged[place] ^ change);
      EXPECT_NO_THROW(decode_image(with_exif(jpeg, damaged)));
    }
  }
}

TEST(ScaledDecoding, KeepsTheShorterSideLongEnough) {
  const Image picture = smooth(64, 96);
  for (const bool progressive : {false, true}) {
    const std::string jpeg = encode_jpeg(picture, progressive);
    for (const auto& [least, height] : std::vector<std::pair<std::int64_t, std::int64_t>>{
             {0, 64}, {1, 8}, {8, 8}, {9, 16}, {16, 16}, {17, 32}, {32, 32}, {33, 64}, {64, 64}, {1000, 64}}) {
      const Image image = decode_image(jpeg, {.least_side = least});
      ASSERT_EQ(image.height(), height) << least;
      ASSERT_EQ(image.width(), height * 3 / 2);
      const std::int64_t factor = 64 / height;
      const at::Tensor expected = at::avg_pool2d(picture.pixels().permute({2, 0, 1}).to(at::kFloat), {factor, factor});
      EXPECT_LE(image.pixels().permute({2, 0, 1}).to(at::kFloat).sub(expected).abs().max().item<float>(), 8);
    }
  }
  EXPECT_EQ(decode_image(encode_jpeg(smooth(65, 96)), {.least_side = 9}).height(), 9) << "65 / 8, rounded up";
  EXPECT_EQ(decode_image(encode_png(picture), {.least_side = 8}).height(), 64);
  EXPECT_THROW(decode_image(encode_jpeg(picture), {.least_side = 8, .max_pixels = 64 * 96 - 1}), FormatError)
      << "the size in the file counts";
}

TEST(ReadImageSize, ReadsTheHeadAlone) {
  const TemporaryFolder folder;
  const auto size_of = [&](const std::string& content) {
    write_text(folder / "image", content);
    return read_image_size(folder / "image");
  };
  const std::string jpeg = encode_jpeg(smooth(16, 24)), png = encode_png(smooth(16, 24));
  EXPECT_EQ(size_of(png), (ImageSize{16, 24}));
  EXPECT_EQ(size_of(jpeg), (ImageSize{16, 24}));
  EXPECT_EQ(size_of(with_exif(jpeg, exif_data(6))), (ImageSize{24, 16}));
  EXPECT_EQ(size_of(with_exif_chunk(png, exif_data(8))), (ImageSize{24, 16}));
  constexpr std::size_t end_chunk = 12;
  const std::string late = png.substr(0, png.size() - end_chunk) + exif_chunk(exif_data(8)) + png.substr(png.size() - end_chunk);
  EXPECT_EQ(size_of(late), (ImageSize{16, 24})) << "which is turned all the same:";
  EXPECT_EQ(load_image(folder / "image").height(), 24);
  EXPECT_EQ(size_of(jpeg.substr(0, jpeg.size() - 40)), (ImageSize{16, 24})) << "damage behind the head is not looked for";
  const std::string thumbnail = app1(std::string(60'000, 'x'));
  EXPECT_EQ(size_of(jpeg.substr(0, 2) + thumbnail + thumbnail + jpeg.substr(2)), (ImageSize{16, 24})) << "a long head";
  EXPECT_THROW(size_of(jpeg.substr(0, 30)), FormatError);
  std::string huge = jpeg;
  huge.replace(jpeg.find("\xff\xc0") + 5, 4, big_endian(60'000, 2) + big_endian(50'000, 2));
  EXPECT_THROW(size_of(huge), FormatError) << "more pixels than decoding allows";
  EXPECT_EQ(read_image_size(folder / "image", std::int64_t{1} << 32), (ImageSize{60'000, 50'000}));
  std::string header = "IHDR" + big_endian(60'000, 4) + big_endian(50'000, 4) + png.substr(24, 5);
  header += big_endian(crc32(0, reinterpret_cast<const Bytef*>(header.data()), static_cast<uInt>(header.size())), 4);
  EXPECT_THROW(size_of(png.substr(0, 12) + header + png.substr(33)), FormatError);
  EXPECT_THROW(size_of("text"), FormatError);
  EXPECT_THROW(read_image_size(folder / "absent"), IoError);
}

}  // namespace
}  // namespace treadle

// Mutated pictures, one after the other, must be an error or a picture of the size they claim, with and without scaling, and must
// not ask for more memory than the options allow.
//
//   TREADLE_FUZZ_INPUTS=1000000   how many (the default keeps `make test` short)
//   TREADLE_FUZZ_SEED=7           other inputs
#include <treadle/base/errors.hpp>
#include <treadle/base/rng.hpp>
#include <treadle/image/image.hpp>

#include <ATen/ops/arange.h>
#include <gtest/gtest.h>
#include <zlib.h>

#include <cstdlib>
#include <iostream>

#include "tests/support/encode_jpeg.hpp"

namespace treadle {
namespace {

std::uint64_t setting(const char* name, std::uint64_t otherwise) {
  const char* text = std::getenv(name);
  return text && *text ? std::strtoull(text, nullptr, 10) : otherwise;
}

Image noise(std::int64_t height, std::int64_t width, std::int64_t channels) {
  return Image(at::arange(height * width * channels).mul(37).remainder(251).to(at::kByte).view({height, width, channels}));
}

std::vector<std::string> good_files() {
  std::vector<std::string> files;
  for (std::int64_t channels : {1, 3, 4}) files.push_back(encode_png(noise(13, 9, channels)));
  for (std::int64_t channels : {1, 3, 4}) {
    for (bool progressive : {false, true}) files.push_back(encode_jpeg(noise(17, 25, channels), progressive));
  }
  files.push_back(with_exif(files.back(), exif_data(6)));
  return files;
}

/// Makes the checksums of a PNG file right again, so that its decoder looks at what was changed.
void mend_checksums(std::string& png) {
  std::size_t place = 8;
  while (place + 12 <= png.size()) {
    std::size_t size = 0;
    for (std::size_t i = 0; i < 4; ++i) size = size << 8 | static_cast<std::uint8_t>(png[place + i]);
    if (size > png.size() - place - 12) return;
    const auto crc = crc32(0, reinterpret_cast<const Bytef*>(png.data() + place + 4), static_cast<uInt>(size + 4));
    png.replace(place + 8 + size, 4, big_endian(crc, 4));
    place += 12 + size;
  }
}

std::string mutated(const std::vector<std::string>& files, Rng rng) {
  std::string bytes = files[rng.below(files.size())];
  for (std::uint64_t changes = 1 + rng.below(6); changes > 0 && bytes.size() > 8; --changes) {
    const std::size_t place = rng.below(bytes.size()), length = 1 + rng.below(std::min<std::size_t>(16, bytes.size() - place));
    switch (rng.below(6)) {
      case 0:
        bytes[place] = static_cast<char>(bytes[place] ^ 1 << rng.below(8));
        break;
      case 1:
        for (std::size_t i = 0; i < length; ++i) bytes[place + i] = static_cast<char>(rng.next());
        break;
      case 2:
        bytes.erase(place, length);
        break;
      case 3:
        bytes.insert(place, bytes.substr(rng.below(bytes.size()), length));
        break;
      case 4:
        bytes.replace(place, length, std::string(length, rng.chance(0.5) ? '\xff' : '\0'));
        break;
      default: {
        const std::string& other = files[rng.below(files.size())];
        bytes = bytes.substr(0, place) + other.substr(std::min(place, other.size()));
      }
    }
  }
  if (bytes.starts_with("\x89PNG") && rng.chance(0.7)) mend_checksums(bytes);
  return bytes;
}

TEST(ImageFuzz, DamagedPicturesAreErrorsOrPictures) {
  const std::vector<std::string> files = good_files();
  const std::uint64_t inputs = setting("TREADLE_FUZZ_INPUTS", 20'000), seed = setting("TREADLE_FUZZ_SEED", 1);
  std::uint64_t decoded = 0, refused = 0;
  for (std::uint64_t number = 0; number < inputs; ++number) {
    const std::string bytes = mutated(files, Rng(seed, number));
    const DecodeOptions options{.mode = static_cast<ColourMode>(number / 4 % 4),
                                .least_side = static_cast<std::int64_t>(number % 4 * 5),
                                .max_pixels = 1 << 16};
    try {
      const Image image = decode_image(bytes, options);
      ASSERT_LE(image.height() * image.width(), options.max_pixels) << "input " << number;
      ASSERT_GE(image.height() * image.width(), 1) << "input " << number;
      ++decoded;
    } catch (const FormatError& error) {
      ASSERT_LE(error.offset().value_or(0), bytes.size()) << "input " << number;
      ++refused;
    }
  }
  std::cout << inputs << " inputs, " << decoded << " decoded, " << refused << " refused\n";
  EXPECT_EQ(decoded + refused, inputs);
  EXPECT_GT(decoded, inputs / 100);
  EXPECT_GT(refused, inputs / 10);
}

}  // namespace
}  // namespace treadle

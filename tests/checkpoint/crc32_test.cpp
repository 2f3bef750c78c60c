#include "checkpoint/crc32.hpp"

#include <treadle/base/rng.hpp>

#include <gtest/gtest.h>
#include <zlib.h>

#include <vector>

namespace treadle {
namespace {

std::span<const std::byte> bytes_of(const std::vector<unsigned char>& data, std::size_t from, std::size_t count) {
  return std::as_bytes(std::span(data)).subspan(from, count);
}

TEST(Crc32, HasTheCheckValueOfItsDefinition) {
  EXPECT_EQ(crc32(0, std::as_bytes(std::span("123456789", 9))), 0xcbf43926u);
  EXPECT_EQ(crc32(0, {}), 0u);
}

TEST(Crc32, EqualsZlibAtEveryLengthAndAlignment) {
  Rng rng(1);
  std::vector<unsigned char> data(3000);
  for (auto& byte : data) byte = static_cast<unsigned char>(rng.next());
  for (std::size_t length = 0; length < 700; ++length) {
    std::size_t from = rng.below(17);
    auto start = static_cast<std::uint32_t>(rng.next());
    EXPECT_EQ(crc32(start, bytes_of(data, from, length)), ::crc32_z(start, data.data() + from, length)) << length;
  }
}

TEST(Crc32, GoesOnWhereItStopped) {
  Rng rng(2);
  std::vector<unsigned char> data(5000);
  for (auto& byte : data) byte = static_cast<unsigned char>(rng.next());
  std::uint32_t whole = crc32(0, bytes_of(data, 0, data.size()));
  for (int i = 0; i < 100; ++i) {
    std::size_t cut = rng.below(data.size());
    EXPECT_EQ(crc32(crc32(0, bytes_of(data, 0, cut)), bytes_of(data, cut, data.size() - cut)), whole);
  }
}

}  // namespace
}  // namespace treadle

#include <base/sha256.hpp>

#include <gtest/gtest.h>

#include <string>

namespace treadle {
namespace {

std::string sum_of(const std::string& text, std::size_t piece) {
  Sha256 sum;
  for (std::size_t at = 0; at < text.size(); at += piece) sum.update(text.data() + at, std::min(piece, text.size() - at));
  return sum.hex();
}

// The examples of FIPS 180-4 and of NIST's "Example Values".
TEST(Sha256, GivesTheSumsOfTheStandardWhateverThePieces) {
  const std::string two_blocks = "abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq";
  const std::string million(1'000'000, 'a');
  for (std::size_t piece : {1u, 7u, 63u, 64u, 65u, 1000u, 1'000'000u}) {
    EXPECT_EQ(sum_of("abc", piece), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    EXPECT_EQ(sum_of("", piece), "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
    EXPECT_EQ(sum_of(two_blocks, piece), "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1");
    EXPECT_EQ(sum_of(million, piece), "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0");
  }
}

}  // namespace
}  // namespace treadle

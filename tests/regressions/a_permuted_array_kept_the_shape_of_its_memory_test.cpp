// An array that numpy pickles in the order of its memory ("K") came in that order's shape when its content was not asked for.
#include <tests/support/temporary_folder.hpp>
#include <treadle/checkpoint/file.hpp>

#include <ATen/ops/arange.h>
#include <gtest/gtest.h>

#include <fstream>
#include <string>

namespace treadle {
namespace {

/// What Python writes for {"a": numpy.arange(24, dtype="u1").reshape(2, 3, 4).transpose(2, 0, 1)} in protocol 5, without frames
/// and memo.
std::string permuted_array() {
  std::string content;
  for (char i = 0; i < 24; ++i) content += i;
  using namespace std::string_literals;
  return "\x80\x05}\x8c\x01"
         "a\x8c\x13numpy._core.numeric\x8c\x0b_frombuffer\x93(\x96\x18\0\0\0\0\0\0\0"s +
         content +
         "\x8c\x05numpy\x8c\x05"
         "dtype\x93\x8c\x02u1\x89\x88\x87R(K\x03\x8c\x01|NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\0tb"s +
         "K\x02K\x03K\x04\x87\x8c\x01KK\x02K\0K\x01\x87tRs."s;
}

TEST(Regressions, APermutedArrayHasItsOwnShape) {
  const TemporaryFolder folder;
  std::ofstream(folder / "array.pkl", std::ios::binary) << permuted_array();
  const auto load = [&](bool read) {
    return load_checkpoint_file(folder / "array.pkl", {.read_tensors = read}).as_dict().at("a").as_tensor();
  };
  EXPECT_TRUE(load(true).equal(at::arange(24, at::kByte).view({2, 3, 4}).permute({2, 0, 1})));
  EXPECT_TRUE(load(false).is_meta());
  EXPECT_EQ(load(false).sizes(), load(true).sizes());
  EXPECT_EQ(load(false).strides(), load(true).strides());
}

}  // namespace
}  // namespace treadle

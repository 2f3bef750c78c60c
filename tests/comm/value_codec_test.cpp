#include <comm/value_codec.hpp>
#include <treadle/base/errors.hpp>

#include <ATen/ops/arange.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/ones.h>
#include <gtest/gtest.h>

#include <cstring>
#include <limits>
#include <random>
#include <string>

namespace treadle {
namespace {

Value everything() {
  List tensors;
  for (auto type : {at::kBool, at::kByte, at::kChar, at::kShort, at::kInt, at::kLong, at::kHalf, at::kBFloat16, at::kFloat,
                    at::kDouble, at::kComplexFloat}) {
    tensors.push_back(at::ones({2, 0, 3}, type));
    tensors.push_back(at::arange(6, at::kInt).view({3, 2}).to(type));
  }
  tensors.push_back(at::ones({}));
  return Dict{{"null", nullptr},
              {"bools", Tuple{true, false}},
              {"ints", List{0, -1, std::numeric_limits<std::int64_t>::min()}},
              {"reals", List{-0.0, 1e300, std::numeric_limits<double>::infinity()}},
              {"", std::string("text\0more", 9)},
              {-3, Bytes{"\xff"}},
              {"nested", List{List(), Tuple(), Dict(), List{Dict{{1, List{Tuple{2}}}}}}},
              {"tensors", tensors}};
}

TEST(ValueCodec, GivesBackEveryTypeAsItWas) {
  EXPECT_TRUE(identical(decode_value(encode_value(everything())), everything()));
  for (const Value& value : {Value(), Value(1), Value("x"), Value(List()), Value(Dict())})
    EXPECT_TRUE(identical(decode_value(encode_value(value)), value));
}

TEST(ValueCodec, DepthIsNoProblem) {
  constexpr int kDepth = 200'000;
  Value deep = 1;
  for (int i = 0; i < kDepth; ++i) {
    List outer;
    outer.push_back(std::move(deep));
    deep = std::move(outer);
  }
  const Value back = decode_value(encode_value(deep));
  const Value* inner = &back;
  int depth = 0;
  for (; inner->is(Value::Type::list); ++depth) inner = &inner->as_list()[0];
  EXPECT_EQ(depth, kDepth);
}

TEST(ValueCodec, EveryCutIsAnError) {
  const std::string bytes = encode_value(everything());
  for (std::size_t length = 0; length < bytes.size(); ++length)
    EXPECT_THROW(decode_value(std::string_view(bytes).substr(0, length)), FormatError) << length;
  EXPECT_THROW(decode_value(bytes + '\0'), FormatError);
}

TEST(ValueCodec, DamagedBytesNeverCrashOrTakeMuchMemory) {
  const std::string bytes = encode_value(everything());
  std::mt19937 random(3);
  for (int trial = 0; trial < 20'000; ++trial) {
    std::string damaged = bytes;
    for (int hits = 1 + static_cast<int>(random() % 4); hits > 0; --hits)
      damaged[random() % damaged.size()] = static_cast<char>(random() % 4 == 0 ? 0xff : random());
    try {
      decode_value(damaged);
    } catch (const FormatError&) {
      // Expected of most.
    }
  }
}

TEST(ValueCodec, LyingLengthsAreErrors) {
  const auto number = [](std::uint64_t value) { return std::string(reinterpret_cast<const char*>(&value), sizeof value); };
  const std::uint64_t huge = 1ULL << 62;
  const std::string tensor_of_floats("\x0a\x06", 2);
  for (const std::string& bytes : {
           "\x05" + number(huge),                                                          // text
           "\x07" + number(huge),                                                          // list
           "\x09" + number(huge),                                                          // dict
           tensor_of_floats + "\x01" + number(huge),                                       // one size
           tensor_of_floats + "\x02" + number(huge) + number(huge),                        // a product that wraps to 0
           tensor_of_floats + std::string("\x03") + number(0) + number(huge) + number(8),  // behind a zero
           tensor_of_floats + "\x01" + number(static_cast<std::uint64_t>(-1)),
           tensor_of_floats + "\xff",
           std::string("\x0a\x7f\x00", 3),
           std::string("\x0b"),
           "\x09" + number(2) + encode_value(1) + encode_value(2) + encode_value(1) + encode_value(2),  // a key twice
           "\x09" + number(1) + encode_value(0.5) + encode_value(2),                                    // a key of another type
       }) {
    EXPECT_THROW(decode_value(bytes), FormatError) << bytes.size();
  }
}

TEST(ValueCodec, TensorsWithoutDenseBytesAreRefused) {
  EXPECT_THROW(encode_value(at::ones({2, 2}).to_sparse()), Error);
  EXPECT_THROW(encode_value(List{at::empty({2}, at::TensorOptions().device(at::kMeta))}), Error);
}

}  // namespace
}  // namespace treadle

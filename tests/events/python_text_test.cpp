#include "events/python_text.hpp"

#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include <bit>
#include <cmath>
#include <cstdlib>
#include <limits>

namespace treadle {
namespace {

TEST(PythonText, NumbersAsReprWritesThem) {
  const std::pair<double, const char*> cases[] = {{0.0, "0.0"},
                                                  {-0.0, "-0.0"},
                                                  {1.0, "1.0"},
                                                  {-7.0, "-7.0"},
                                                  {0.1, "0.1"},
                                                  {0.1 + 0.2, "0.30000000000000004"},
                                                  {1e-4, "0.0001"},
                                                  {0.00012345, "0.00012345"},
                                                  {9.9999e-5, "9.9999e-05"},
                                                  {1e-5, "1e-05"},
                                                  {-2.5e-100, "-2.5e-100"},
                                                  {1e15, "1000000000000000.0"},
                                                  {9999999999999998.0, "9999999999999998.0"},
                                                  {1e16, "1e+16"},
                                                  {1.5e16, "1.5e+16"},
                                                  {123456789012345680.0, "1.2345678901234568e+17"},
                                                  {1e22, "1e+22"},
                                                  {5e-324, "5e-324"},
                                                  {2.2250738585072014e-308, "2.2250738585072014e-308"},
                                                  {1.7976931348623157e308, "1.7976931348623157e+308"},
                                                  {std::numeric_limits<double>::infinity(), "Infinity"},
                                                  {-std::numeric_limits<double>::infinity(), "-Infinity"},
                                                  {std::nan(""), "NaN"},
                                                  {-std::nan(""), "NaN"}};
  for (const auto& [value, text] : cases) EXPECT_EQ(python_json_number(value), text);
}

RC_GTEST_PROP(PythonText, NumbersReadBackTheSame, (std::uint64_t bits)) {
  const auto value = std::bit_cast<double>(bits);
  RC_PRE(std::isfinite(value));
  RC_ASSERT(std::bit_cast<std::uint64_t>(std::strtod(python_json_number(value).c_str(), nullptr)) == bits);
}

TEST(PythonText, StringsAreAsciiJson) {
  EXPECT_EQ(python_json_string("a/b c~"), R"("a/b c~")");
  EXPECT_EQ(python_json_string("\"\\\n\r\t\f\b"), R"("\"\\\n\r\t\f\b")");
  EXPECT_EQ(python_json_string(std::string_view("\x00\x1f\x7f", 3)), R"("\u0000\u001f\u007f")");
  EXPECT_EQ(python_json_string("\xc3\xa9 \xe2\x82\xac \xf0\x9f\x98\x80"), R"("\u00e9 \u20ac \ud83d\ude00")");
  EXPECT_EQ(python_json_string("\xf4\x8f\xbf\xbf"), R"("\udbff\udfff")");
}

TEST(PythonText, BytesThatAreNoUtf8AreReplaced) {
  EXPECT_EQ(python_json_string("a\xff"), R"("a\ufffd")");
  EXPECT_EQ(python_json_string("\xc3"), R"("\ufffd")");
  EXPECT_EQ(python_json_string("\xc3(\xa9"), R"("\ufffd(\ufffd")");
  EXPECT_EQ(python_json_string("\xc0\xaf"), R"("\ufffd\ufffd")");
  EXPECT_EQ(python_json_string("\xe0\x80\x80"), R"("\ufffd\ufffd\ufffd")");
  EXPECT_EQ(python_json_string("\xed\xa0\x80"), R"("\ufffd\ufffd\ufffd")");
  EXPECT_EQ(python_json_string("\xf4\x90\x80\x80"), R"("\ufffd\ufffd\ufffd\ufffd")");
}

TEST(PythonText, FormatsAsPython) {
  EXPECT_EQ(python_general(123456, 5), "1.2346e+05");
  EXPECT_EQ(python_general(1e-5, 5), "1e-05");
  EXPECT_EQ(python_general(0.25, 4), "0.25");
  EXPECT_EQ(python_general(-std::nan(""), 4), "nan");
  EXPECT_EQ(python_general(-std::numeric_limits<double>::infinity(), 4), "-inf");
  EXPECT_EQ(python_fixed(2, 4), "2.0000");
  EXPECT_EQ(python_fixed(0.125, 2), "0.12");
  EXPECT_EQ(python_fixed(std::numeric_limits<double>::infinity(), 4), "inf");
}

TEST(PythonText, Timedeltas) {
  EXPECT_EQ(python_timedelta(0.99), "0:00:00");
  EXPECT_EQ(python_timedelta(22981.47), "6:23:01");
  EXPECT_EQ(python_timedelta(86400), "1 day, 0:00:00");
  EXPECT_EQ(python_timedelta(2 * 86400 + 3661), "2 days, 1:01:01");
  EXPECT_EQ(python_timedelta(-22), "-1 day, 23:59:38");
  EXPECT_EQ(python_timedelta(-0.5), "0:00:00");
  EXPECT_EQ(python_timedelta(-2 * 86400.0), "-2 days, 0:00:00");
}

}  // namespace
}  // namespace treadle

#include "config/scalar.hpp"

#include "tests/config/generators.hpp"
#include "tests/config/helpers.hpp"

#include <rapidcheck/gtest.h>

#include <bit>
#include <cmath>
#include <limits>

namespace treadle {
namespace {

Value read(const std::string& text) { return construct_scalar(resolve_scalar(text), text); }

TEST(Scalar, IntegersOfYaml11) {
  expect_value(read("017"), 15);
  expect_value(read("-017"), -15);
  expect_value(read("0"), 0);
  expect_value(read("00"), 0);
  expect_value(read("0_"), 0);
  expect_value(read("1_000"), 1000);
  expect_value(read("+5"), 5);
  expect_value(read("0b101"), 5);
  expect_value(read("0x_fF"), 255);
  expect_value(read("1:30"), 90);
  expect_value(read("-1:30:5"), -5405);
  expect_value(read("9223372036854775807"), std::numeric_limits<std::int64_t>::max());
  expect_value(read("-9223372036854775808"), std::numeric_limits<std::int64_t>::min());
}

TEST(Scalar, Floats) {
  expect_value(read("1.5"), 1.5);
  expect_value(read("1."), 1.0);
  expect_value(read(".5"), 0.5);
  expect_value(read("-1.0e+2"), -100.0);
  expect_value(read("1_0.2_5"), 10.25);
  expect_value(read("1:30.5"), 90.5);
  expect_value(read(".inf"), std::numeric_limits<double>::infinity());
  expect_value(read("-.INF"), -std::numeric_limits<double>::infinity());
  EXPECT_TRUE(std::isnan(read(".NaN").as_double()));
}

TEST(Scalar, WordsOfYaml11) {
  for (const char* text : {"yes", "Yes", "YES", "true", "True", "TRUE", "on", "On", "ON"}) expect_value(read(text), true);
  for (const char* text : {"no", "No", "NO", "false", "False", "FALSE", "off", "Off", "OFF"}) expect_value(read(text), false);
  for (const char* text : {"", "~", "null", "Null", "NULL"}) expect_value(read(text), nullptr);
}

TEST(Scalar, WhatStaysText) {
  for (const char* text :
       {"1e-4", "1e5", "1.0e2", "+.5",   "-.5", "y", "n", "yEs",       "nan",         ".iNF", "0o17", "018",  "1:60", "0x",
        "0b",   "12a", "--1",   "1.2.3", "1:",  "-", "+", "2020-1-02", "2020-01-02x", "None", "_1",   "0:30", "99:1"}) {
    if (std::string_view(text) == "99:1") {
      EXPECT_EQ(resolve_scalar(text), ScalarKind::integer);
    } else {
      EXPECT_EQ(resolve_scalar(text), ScalarKind::string) << text;
    }
  }
}

TEST(Scalar, WhatHasNoValue) {
  for (const char* text : {"2020-01-02", "2020-01-02 10:11:12", "2020-1-2T1:11:12.5 -05:30", "2020-01-02t10:11:12Z", "<<", "=",
                           "9223372036854775808", "-9223372036854775809", "0x10000000000000000", "0b_", "99999999999999999999:00",
                           "1000000000000000000:00"}) {
    message_of<Error>([&] { read(text); });
  }
  EXPECT_EQ(resolve_scalar("2020-01-02"), ScalarKind::timestamp);
}

TEST(Scalar, ExplicitKinds) {
  expect_value(construct_scalar(ScalarKind::real, "3"), 3.0);
  expect_value(construct_scalar(ScalarKind::string, "3"), "3");
  message_of<Error>([] { construct_scalar(ScalarKind::integer, "1.5"); });
  message_of<Error>([] { construct_scalar(ScalarKind::real, "x"); });
  message_of<Error>([] { construct_scalar(ScalarKind::boolean, "1"); });
}

TEST(Scalar, FloatsAsPythonWritesThem) {
  EXPECT_EQ(python_float_repr(1.0), "1.0");
  EXPECT_EQ(python_float_repr(-0.0), "-0.0");
  EXPECT_EQ(python_float_repr(0.0001), "0.0001");
  EXPECT_EQ(python_float_repr(0.00001), "1e-05");
  EXPECT_EQ(python_float_repr(1e15), "1000000000000000.0");
  EXPECT_EQ(python_float_repr(1e16), "1e+16");
  EXPECT_EQ(python_float_repr(1.5e300), "1.5e+300");
  EXPECT_EQ(python_float_repr(5e-324), "5e-324");
  EXPECT_EQ(python_float_repr(0.1), "0.1");
  EXPECT_EQ(python_float_repr(-std::numeric_limits<double>::infinity()), "-inf");
}

RC_GTEST_PROP(Scalar, DecimalsReadBack, ()) {
  const double number = std::abs(*any_double());
  if (std::isinf(number)) return;
  RC_ASSERT(std::bit_cast<std::uint64_t>(parse_decimal(python_float_repr(number))) == std::bit_cast<std::uint64_t>(number));
}

}  // namespace
}  // namespace treadle

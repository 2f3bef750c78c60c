#include "config/python_expression.hpp"

#include "tests/config/generators.hpp"
#include "tests/config/helpers.hpp"

#include <rapidcheck/gtest.h>

#include <limits>

namespace treadle {
namespace {

Value literal(const std::string& text) {
  const Literal result = parse_literal(text);
  EXPECT_EQ(result.outcome, Literal::Outcome::value) << text;
  return result.value;
}

Literal::Outcome outcome(const std::string& text) { return parse_literal(text).outcome; }

TEST(PythonLiteral, Numbers) {
  expect_value(literal("60000"), 60000);
  expect_value(literal("-7"), -7);
  expect_value(literal("+7"), 7);
  expect_value(literal("- 7"), -7);
  expect_value(literal("-(7)"), -7);
  expect_value(literal("1_000"), 1000);
  expect_value(literal("0x_ff"), 255);
  expect_value(literal("0o17"), 15);
  expect_value(literal("0B101"), 5);
  expect_value(literal("000"), 0);
  expect_value(literal("9223372036854775807"), std::numeric_limits<std::int64_t>::max());
  expect_value(literal("-9223372036854775808"), std::numeric_limits<std::int64_t>::min());
  expect_value(literal("1e-3"), 1e-3);
  expect_value(literal("1."), 1.0);
  expect_value(literal(".5"), 0.5);
  expect_value(literal("09.5"), 9.5);
  expect_value(literal("1_0.2_5e+0_1"), 102.5);
  expect_value(literal("-0.0"), -0.0);
  expect_value(literal("1e400"), std::numeric_limits<double>::infinity());
  expect_value(literal("1e-400"), 0.0);
  expect_value(literal("4.9e-324"), 5e-324);
}

TEST(PythonLiteral, TextThatIsNoLiteralStandsForItself) {
  for (const char* text : {"",
                           " ",
                           "abc",
                           "a.b",
                           "0777",
                           "1__0",
                           "1_",
                           "_1",
                           "0x",
                           "0x_",
                           "1e",
                           "1.5e",
                           "1.2.3",
                           "--3",
                           "-True",
                           "not True",
                           "1+1",
                           "2*3",
                           "(1",
                           "1)",
                           "[1,,2]",
                           "(,)",
                           ",",
                           "1 2",
                           "'a",
                           "'a''",
                           "\"a\nb\"",
                           "'a'\n'b'",
                           "f'a'",
                           "'a' b'c'",
                           "b'\xC3\xA9'",
                           "{1: 2",
                           "{1, 2: 3}",
                           "{1: 2, 3}",
                           "[x for x in (1,)]",
                           "set(1)",
                           "dict()",
                           "1 if 2 else 3",
                           "*a",
                           "x=1",
                           "1;",
                           "/a/b",
                           "http://a",
                           "a,b",
                           "#",
                           "\n 1",
                           "'\\x4'",
                           "'\\u12'",
                           "'\\ud800'",
                           "0b12",
                           "0o8",
                           "1.0 2",
                           "None.a",
                           "Nonea",
                           "true",
                           "[1] + [2]",
                           "'a' + 'b'",
                           "1 < 2"}) {
    EXPECT_EQ(outcome(text), Literal::Outcome::not_literal) << text;
  }
}

TEST(PythonLiteral, WhatNoConfigCanHoldIsRefused) {
  for (const char* text :
       {"1j", "1 + 2j", "-1.5-2j", "(1, 2j)", "...", "(..., 1)", "b'a'", "b'a' b'b'", "{1, 2}", "set()", "{[]: 1}", "{1.5: 2}",
        "{(1,): 2}", "{None: 1}", "{True: 1}", "9223372036854775808", "-9223372036854775809",
        "1"
        "00000000000000000000"}) {
    EXPECT_EQ(outcome(text), Literal::Outcome::refused) << text;
    EXPECT_FALSE(parse_literal(text).what.empty());
  }
}

TEST(PythonLiteral, Collections) {
  expect_value(literal("(60000, 80000)"), Tuple{60000, 80000});
  expect_value(literal("1,"), Tuple{1});
  expect_value(literal("1, 2"), Tuple{1, 2});
  expect_value(literal("(5)"), 5);
  expect_value(literal("(5,)"), Tuple{5});
  expect_value(literal("()"), Tuple{});
  expect_value(literal("[]"), List{});
  expect_value(literal("[1, (2, [3.5, None]), 'a', True,]"), (List{1, Tuple{2, List{3.5, nullptr}}, "a", true}));
  expect_value(literal("[\n  1, # one\n  2\n]  # two\n\n"), (List{1, 2}));
  expect_value(literal("{'a': 1, 2: {'b': ()}, 'a': 3}"), Dict({{"a", 3}, {2, Dict({{"b", Tuple{}}})}}));
  expect_value(literal("{}"), Dict());
  expect_value(literal("None"), nullptr);
  expect_value(literal(" \t'a'"), "a");
}

TEST(PythonLiteral, Strings) {
  expect_value(literal("'123'"), "123");
  expect_value(literal("\"a'b\""), "a'b");
  expect_value(literal("'a' \"b\" u'c'"), "abc");
  expect_value(literal("r'a\\n'"), "a\\n");
  expect_value(literal("R'\\''"), "\\'");
  expect_value(literal("'''a\n'b'''"), "a\n'b");
  expect_value(literal("('a'\n'b')"), "ab");
  expect_value(literal("'\\t\\x41\\101\\0\\u00e9\\U0001F600\\q\\\\'"), std::string("\tAA\0é😀\\q\\", 13));
  expect_value(literal("'a\\\nb'"), "ab");
}

TEST(PythonLiteral, NestingIsBounded) {
  const auto nested = [](int depth) {
    return std::string(static_cast<std::size_t>(depth), '[') + std::string(static_cast<std::size_t>(depth), ']');
  };
  EXPECT_EQ(outcome(nested(200)), Literal::Outcome::value);
  EXPECT_EQ(outcome(nested(201)), Literal::Outcome::not_literal);
  EXPECT_EQ(outcome(std::string(1'000'000, '(')), Literal::Outcome::not_literal);
  EXPECT_EQ(outcome(std::string(1'000'000, '-')), Literal::Outcome::not_literal);
  std::string sum = "1";
  for (int i = 0; i < 100'000; ++i) sum += "+1";
  EXPECT_EQ(outcome(sum), Literal::Outcome::not_literal);
}

RC_GTEST_PROP(PythonLiteral, ReprReadsBack, ()) {
  const Value value = *any_leaf(3);
  const std::optional<std::string> text = python_repr(value);
  RC_ASSERT(text.has_value());
  const Literal again = parse_literal(*text);
  RC_ASSERT(again.outcome == Literal::Outcome::value);
  RC_ASSERT(identical(again.value, value));
}

RC_GTEST_PROP(PythonLiteral, AnyTextIsSafe, ()) {
  const std::string text = *any_text();
  const Literal result = parse_literal(text);
  if (result.outcome == Literal::Outcome::value && python_repr(result.value)) {
    RC_ASSERT(identical(parse_literal(*python_repr(result.value)).value, result.value));
  }
}

TEST(PythonLiteral, NotANumberHasNoRepr) { EXPECT_FALSE(python_repr(List{std::nan("")}).has_value()); }

TEST(PythonEvaluate, Arithmetic) {
  expect_value(evaluate_python("2 + 3 * 4 - 1"), 13);
  expect_value(evaluate_python("7 / 2"), 3.5);
  expect_value(evaluate_python("-7 // 2"), -4);
  expect_value(evaluate_python("-7 % 3"), 2);
  expect_value(evaluate_python("7 % -3"), -2);
  expect_value(evaluate_python("7 // -1"), -7);
  expect_value(evaluate_python("7.5 // 2"), 3.0);
  expect_value(evaluate_python("-7.5 % 2"), 0.5);
  expect_value(evaluate_python("2 ** 3 ** 2"), 512);
  expect_value(evaluate_python("-2 ** 2"), -4);
  expect_value(evaluate_python("2 ** -1"), 0.5);
  expect_value(evaluate_python("(-1) ** 1000000001"), -1);
  expect_value(evaluate_python("0 ** 0"), 1);
  expect_value(evaluate_python("2 ** (1.0/3)"), std::pow(2.0, 1.0 / 3));
  expect_value(evaluate_python("int(-2.7)"), -2);
  expect_value(evaluate_python("float(3)"), 3.0);
  expect_value(evaluate_python("abs(-3)"), 3);
  expect_value(evaluate_python("max([1, 5, 2]) - min(4, 3)"), 2);
  expect_value(evaluate_python("tuple(range(3))"), (Tuple{0, 1, 2}));
  expect_value(evaluate_python("list((1, 2))"), (List{1, 2}));
  expect_value(evaluate_python("range(10, 0, -4)"), (List{10, 6, 2}));
  expect_value(evaluate_python("[int(x * 0.1 * 1024) for x in range(5, 8)]"), (List{512, 614, 716}));
  expect_value(evaluate_python("[[x, x * 2] for x in [1, 2]]"), (List{List{1, 2}, List{2, 4}}));
  expect_value(evaluate_python("[[y + x for x in (1, 2)] for y in (10, 20)]"), (List{List{11, 12}, List{21, 22}}));
}

TEST(PythonEvaluate, RefusesWhatIsMore) {
  for (const char* text : {"__import__('os').system('true')",
                           "open('x')",
                           "x",
                           "().__class__",
                           "lambda: 1",
                           "'a' * 1000000000",
                           "[1] * 5",
                           "2 ** 64",
                           "3 ** 10 ** 9",
                           "1 / 0",
                           "1 % 0",
                           "1.0 // 0",
                           "0 ** -1",
                           "(-8) ** 0.5",
                           "range(10 ** 12)",
                           "[x for x in 5]",
                           "int('7')",
                           "max([])",
                           "range(1, 2, 0)",
                           "9223372036854775807 + 1",
                           "int(1e300)",
                           "{1: 2}",
                           "-[1]",
                           "range(0.5)",
                           "[[[[y for y in range(100)] for y in range(100)] for y in range(100)] for y in range(100)]"}) {
    message_of<Error>([&] { evaluate_python(text); });
  }
}

}  // namespace
}  // namespace treadle

#include <treadle/config/config.hpp>
#include <treadle/config/defaults.hpp>

#include "tests/config/generators.hpp"
#include "tests/config/helpers.hpp"

#include <rapidcheck/gtest.h>

#include <limits>

namespace treadle {
namespace {

std::string dumped(const Value& value) {
  Config config;
  config.declare("K", value);
  return config.dump();
}

TEST(Dump, LayoutOfPyYaml) {
  const Config config =
      Config::parse("Z: {B: [1, [2, 3], []], A: {}}\nM: (1, 2)\nE: ()\nB: true\nN: null\nF: 1e-5\nI: -.inf\nS: ''\n");
  EXPECT_EQ(
      config.dump(),
      "B: true\nE: []\nF: 1.0e-05\nI: -.inf\nM:\n- 1\n- 2\nN: null\nS: ''\nZ:\n  A: {}\n  B:\n  - 1\n  - - 2\n    - 3\n  - []\n");
  EXPECT_EQ(Config().dump(), "{}\n");
}

TEST(Dump, Strings) {
  EXPECT_EQ(dumped("plain text"), "K: plain text\n");
  EXPECT_EQ(dumped("a: b"), "K: 'a: b'\n");
  EXPECT_EQ(dumped("it's 1#"), "K: it's 1#\n");
  EXPECT_EQ(dumped("it's # one"), "K: 'it''s # one'\n");
  EXPECT_EQ(dumped("yes"), "K: 'yes'\n");
  EXPECT_EQ(dumped("a\nb"), "K: \"a\\nb\"\n");
  EXPECT_EQ(dumped("é"), "K: \"\\xE9\"\n");
  EXPECT_EQ(dumped("\u65E5\U0001F600"), "K: \"\\u65E5\\U0001F600\"\n");
  EXPECT_EQ(dumped(std::string(200, 'a') + " b"), "K: " + std::string(200, 'a') + " b\n");
}

TEST(Dump, WhatWouldBeDecodedIsQuotedTwice) {
  EXPECT_EQ(dumped("123"), "K: '''123'''\n");
  EXPECT_EQ(dumped("None"), "K: '''None'''\n");
  EXPECT_EQ(dumped("1j"), "K: '''1j'''\n");
  EXPECT_EQ(dumped(List{"123"}), "K:\n- '123'\n");
}

TEST(Dump, TuplesThatAListWouldNotRestoreAreLiterals) {
  EXPECT_EQ(dumped(Tuple{1, 2}), "K:\n- 1\n- 2\n");
  EXPECT_EQ(dumped(Tuple{Tuple{1.0, 2.0}, Tuple{}}), "K: ((1.0, 2.0), ())\n");
  EXPECT_EQ(dumped(List{Tuple{1}}), "K: '[(1,)]'\n");
  EXPECT_EQ(dumped(Dict({{"a", 1}})), "K: '{''a'': 1}'\n");
  Config config = Config::parse("K: null\n");
  config.set("K", Tuple{1});
  EXPECT_EQ(config.dump(), "K: (1,)\n");
}

/// A leaf with a default of the type of `value`, merged from its own dump.
void expect_restored(const Value& value) {
  Config config;
  config.declare("S.KEY", Value());
  config.declare("S.OTHER", value);
  config.set("S.KEY", value.is(Value::Type::dict) ? Value() : value);
  const Config fresh = [&] {
    Config same;
    same.declare("S.KEY", Value());
    same.declare("S.OTHER", value.is(Value::Type::tuple) ? Value(Tuple{}) : value.is(Value::Type::list) ? Value(List{}) : value);
    return same;
  }();
  const Folder folder;
  Config again = fresh;
  again.merge_from_file(folder.write("dump.yaml", config.dump()));
  RC_ASSERT(identical(again.to_dict(), config.to_dict()));
  RC_ASSERT(again.dump() == config.dump());
}

RC_GTEST_PROP(Dump, LoadsToTheSame, ()) { expect_restored(*any_leaf(3)); }

RC_GTEST_PROP(Dump, StringsLoadToTheSame, ()) {
  const std::string text = *any_text();
  expect_restored(text);
  expect_restored(List{text, List{text}});
}

RC_GTEST_PROP(Dump, KeysLoadToTheSame, ()) {
  std::string key = *any_text();
  std::erase(key, '.');
  if (key.empty()) return;
  Config config;
  config.declare(key + ".a", 1);
  const Config again = Config::parse(config.dump());
  RC_ASSERT(identical(again.to_dict(), config.to_dict()));
}

TEST(Dump, NotANumberSurvivesWhereYamlHasIt) {
  EXPECT_EQ(dumped(List{std::nan("")}), "K:\n- .nan\n");
  EXPECT_EQ(dumped(List{Tuple{std::nan("")}}), "K:\n- - .nan\n");
}

}  // namespace
}  // namespace treadle

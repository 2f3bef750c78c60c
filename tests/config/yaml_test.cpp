#include <treadle/config/config.hpp>

#include "tests/config/helpers.hpp"

#include <thread>

namespace treadle {
namespace {

Value read(const std::string& yaml) { return Config::parse(yaml).at("K"); }

TEST(Yaml, ScalarsListsAndSections) {
  const Config config =
      Config::parse("A:\n  B: 1\n  C: {D: [1, 2.5, x, null, [yes]], E: 'quoted'}\nF: |\n  two\n  lines\nG: \"\\x41\"\n");
  EXPECT_EQ(config.keys(), (std::vector<std::string>{"A.B", "A.C.D", "A.C.E", "F", "G"}));
  expect_value(config.at("A.C.D"), (List{1, 2.5, "x", nullptr, List{true}}));
  EXPECT_EQ(config.get_string("A.C.E"), "quoted");
  EXPECT_EQ(config.get_string("F"), "two\nlines\n");
  EXPECT_EQ(config.get_string("G"), "A");
}

TEST(Yaml, AMappingInsideAListIsADict) {
  expect_value(read("K: [{a: 1, 2: [b]}, {}]"), (List{Dict({{"a", 1}, {2, List{"b"}}}), Dict()}));
}

TEST(Yaml, StringsAreDecodedOnceButNotInsideLists) {
  expect_value(read("K: '123'"), 123);
  expect_value(read("K: \"'123'\""), "123");
  expect_value(read("K: (1, 'a')"), (Tuple{1, "a"}));
  expect_value(read("K: ['(1, 2)', '123']"), (List{"(1, 2)", "123"}));
}

TEST(Yaml, AnchorsAndMergeKeys) {
  const Config config =
      Config::parse("A: &a {X: 1, Y: 2}\nB: &b {Y: 3, Z: 4}\nC:\n  Y: 5\n  <<: [*a, *b]\nD: {<<: *b, W: *a}\nE: &n [7]\nF: *n\n");
  EXPECT_EQ(config.get_int("C.X"), 1);
  EXPECT_EQ(config.get_int("C.Y"), 5);
  EXPECT_EQ(config.get_int("C.Z"), 4);
  EXPECT_EQ(config.get_int("D.Y"), 3);
  EXPECT_EQ(config.get_int("D.W.Y"), 2);
  EXPECT_EQ(config.get_ints("F"), std::vector<std::int64_t>{7});
  EXPECT_EQ(Config::parse("A: &a {X: 1}\nB: &b {X: 2}\nC: {<<: [*a, *b]}\n").get_int("C.X"), 1);
  expect_message<ConfigError>([] { Config::parse("A: {<<: 1}", "a.yaml"); }, {"a.yaml:1", "<<"});
  expect_message<ConfigError>([] { Config::parse("A: {<<: [1]}", "a.yaml"); }, {"a.yaml:1", "<<"});
}

TEST(Yaml, TheLastOfEqualKeysCounts) {
  const Config config = Config::parse("A: 1\nB: 2\nA: {C: 3}\n");
  EXPECT_EQ(config.keys(), (std::vector<std::string>{"A.C", "B"}));
}

TEST(Yaml, Tags) {
  expect_value(read("K: !!str 2020-01-02"), "2020-01-02");
  expect_value(read("K: !!float 3"), 3.0);
  expect_value(read("K: !!int '17'"), 17);
  expect_value(read("K: !!null x"), nullptr);
  expect_value(read("K: !!seq [1]"), List{1});
  expect_value(read("K: !!python/tuple [1, [2]]"), (Tuple{1, List{2}}));
  EXPECT_EQ(Config::parse("K: !!map {A: 1}").get_int("K.A"), 1);
  for (const char* value :
       {"!!binary aGVsbG8=", "!foo bar", "!!set {a: null}", "!foo [1]", "!foo {a: 1}", "!!int x", "!!bool 1", "2020-01-02", "=",
        "[2020-01-02]", "!!python/name:os.system", "!!python/object/apply:os.system ['true']", "9223372036854775808"}) {
    expect_message<ConfigError>([&] { Config::parse("\nK: " + std::string(value), "a.yaml"); }, {"a.yaml:2"});
  }
}

TEST(Yaml, KeysAreText) {
  expect_message<ConfigError>([] { Config::parse("A: 1\non: 2", "a.yaml"); }, {"a.yaml:2", "`on`", "bool", "quotes"});
  expect_message<ConfigError>([] { Config::parse("5: 2", "a.yaml"); }, {"a.yaml:1", "`5`"});
  expect_message<ConfigError>([] { Config::parse("? [1]\n: 2", "a.yaml"); }, {"a.yaml:1", "text"});
  expect_message<ConfigError>([] { Config::parse("K: [{1.5: 2}]", "a.yaml"); }, {"a.yaml:1", "float"});
  EXPECT_EQ(Config::parse("'on': 2").get_int("on"), 2);
}

TEST(Yaml, WhatIsNotYamlSaysWhere) {
  expect_message<FormatError>([] { Config::parse("A: 1\nB: [1, 2\n", "a.yaml"); }, {"a.yaml", "line 3"});
  expect_message<FormatError>([] { Config::parse("A: *missing\n", "a.yaml"); }, {"a.yaml", "line 1"});
  expect_message<FormatError>([] { Config::parse("A: &a [*a]\n", "a.yaml"); }, {"a.yaml", "line 1", "alias"});
  expect_message<FormatError>([] { Config::parse("A: 1\n---\nB: 2\n", "a.yaml"); }, {"a.yaml", "several"});
  expect_message<FormatError>([] { Config::parse("A: 1\nB: \xE9\n", "a.yaml"); },
                              {"a.yaml", "line 2, column 4", "byte 8", "UTF-8"});
  expect_message<FormatError>([] { Config::parse("A: 1\nB: \x01\n", "a.yaml"); }, {"a.yaml", "line 2, column 4", "0x01"});
  expect_message<FormatError>([] { Config::parse("A: 1\nB: \"never\nC: closed \\\"\n", "a.yaml"); },
                              {"a.yaml", "line 2, column 4", "never closed"});
  expect_message<FormatError>([] { Config::parse("A: &a !!str 'it''s\n", "a.yaml"); }, {"never closed"});
  expect_message<FormatError>([] { Config::parse("\xEF\xBB\xBFK: 'x\n", "a.yaml"); }, {"never closed"});
  expect_message<FormatError>([] { Config::parse("A: &a 1\nB: &a 2\n", "a.yaml"); }, {"line 2", "&a"});
  EXPECT_EQ(Config::parse("\xEF\xBB\xBFK: 'it''s'").get_string("K"), "it's");
  EXPECT_EQ(Config::parse("K: !!str \"a\\\"\"").get_string("K"), "a\"");
  for (const char* bad :
       {"\xC0\xAF", "\xE0\x80\xAF", "\xED\xA0\x80", "\xF4\x90\x80\x80", "\xF8\x88\x80\x80\x80", "\xE2\x82", "\xFF\xFE"}) {
    expect_message<FormatError>([&] { Config::parse("A: " + std::string(bad) + "\n"); }, {"UTF-8"});
  }
  for (const char* good : {"\xC3\xA9", "\xE2\x82\xAC", "\xF0\x9F\x98\x80", "\xEF\xBB\xBF"}) {
    EXPECT_EQ(Config::parse("A: x" + std::string(good) + "y\n").get_string("A"), "x" + std::string(good) + "y");
  }
}

TEST(Yaml, AConfigIsAMapping) {
  expect_message<ConfigError>([] { Config::parse("", "a.yaml"); }, {"a.yaml", "empty"});
  expect_message<ConfigError>([] { Config::parse("# nothing\n", "a.yaml"); }, {"a.yaml", "empty"});
  expect_message<ConfigError>([] { Config::parse("[1]", "a.yaml"); }, {"a.yaml", "mapping"});
  EXPECT_TRUE(Config::parse("{}").keys().empty());
}

TEST(Yaml, EscapesOfLatin1) { EXPECT_EQ(read("K: \"a\\_\\Né\\xE9\"").as_string(), "a\xC2\xA0\xC2\x85éé"); }

TEST(Yaml, HostileFilesEndInAnError) {
  std::string laughs = "A0: &a0 [x, x, x, x, x, x, x, x, x, x]\n";
  for (int i = 1; i < 10; ++i) {
    const std::string previous = std::to_string(i - 1);
    laughs += "A" + std::to_string(i) + ": &a" + std::to_string(i) + " [";
    for (int j = 0; j < 10; ++j) laughs += "*a" + previous + ", ";
    laughs += "]\n";
  }
  expect_message<FormatError>([&] { Config::parse(laughs); }, {"more than"});

  std::string tower = "A0: &a0 [x]\n";
  for (int i = 1; i < 1000; ++i)
    tower += "A" + std::to_string(i) + ": &a" + std::to_string(i) + " [*a" + std::to_string(i - 1) + "]\n";
  expect_message<FormatError>([&] { Config::parse(tower); }, {"deeper than"});

  message_of<FormatError>([] { Config::parse("A: " + std::string(100'000, '[')); });
  message_of<FormatError>([] { Config::parse("A: " + std::string(100'000, '{')); });
}

TEST(Yaml, ManyThreadsMayReadOneConfig) {
  const Config config = Config::parse("A: {B: 1, C: [1, 2]}\n");
  std::vector<std::thread> threads;
  for (int i = 0; i < 4; ++i) {
    threads.emplace_back([&] {
      for (int j = 0; j < 1000; ++j) {
        EXPECT_EQ(config.get_int("A.B"), 1);
        EXPECT_EQ(config.get_ints("A.C").size(), 2u);
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
}

}  // namespace
}  // namespace treadle

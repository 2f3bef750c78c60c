#include <treadle/config/config.hpp>
#include <treadle/config/defaults.hpp>

#include "tests/config/helpers.hpp"

namespace treadle {
namespace {

Config tree() {
  return Config::parse(
      "FLAG: false\nCOUNT: 1\nRATE: 0.5\nNAME: x\nLIST: [1]\nTUPLE: (1,)\nNOTHING: null\nSECTION:\n  KEY: 1\n  OTHER: {DEEP: "
      "2}\n");
}

void apply(Config& config, std::vector<std::string> overrides) {
  config.merge_from_list(std::span<const std::string>(overrides));
}

TEST(Merge, EveryPairOfTypes) {
  const std::vector<std::pair<std::string, Value>> values{{"FLAG", true},      {"COUNT", 7},      {"RATE", 1.5},
                                                          {"NAME", "text"},    {"LIST", List{2}}, {"TUPLE", Tuple{3}},
                                                          {"NOTHING", nullptr}};
  for (const auto& [key, unused] : values) {
    for (const auto& [from, value] : values) {
      Config config = tree();
      const bool sequences = (key == "LIST" || key == "TUPLE") && (from == "LIST" || from == "TUPLE");
      const bool allowed =
          key == from || key == "NOTHING" || from == "NOTHING" || sequences || (key == "RATE" && from == "COUNT");
      if (!allowed) {
        expect_message<ConfigError>([&] { config.set(key, value); }, {key, "found " + std::string(to_string(value.type()))});
        expect_value(config.at(key), tree().at(key));
        continue;
      }
      config.set(key, value);
      if (key == "RATE" && from == "COUNT") {
        expect_value(config.at(key), 7.0);
      } else if (sequences && key != from) {
        expect_value(config.at(key), key == "LIST" ? Value(List{3}) : Value(Tuple{2}));
      } else {
        expect_value(config.at(key), value);
      }
    }
  }
}

TEST(Merge, NullResetsTheTypeOfAKey) {
  Config config = tree();
  apply(config, {"COUNT", "None", "COUNT", "'text'"});
  EXPECT_EQ(config.get_string("COUNT"), "text");
}

TEST(Merge, DictsAreForNewKeysOnly) {
  Config config = tree();
  expect_message<ConfigError>([&] { apply(config, {"NOTHING", "{'a': 1}"}); }, {"NOTHING", "Dict"});
  expect_message<ConfigError>([&] { apply(config, {"SECTION", "{'KEY': 1}"}); }, {"SECTION", "section", "Dict"});
  expect_message<ConfigError>([&] { config.set("SECTION", nullptr); }, {"SECTION", "section", "null"});
  config.allow_new_keys();
  const Folder folder;
  config.merge_from_file(folder.write("a.yaml", "NEW: \"{'a': (1,)}\"\n"));
  expect_value(config.at("NEW"), Dict({{"a", Tuple{1}}}));
}

TEST(Merge, AnUnknownKeySaysWhereAndWhatIsNear) {
  Config config = default_config();
  const Folder folder;
  const auto file = folder.write("a.yaml", "VERSION: 2\nSOLVER:\n  BASE_LRR: 0.1\n");
  expect_message<ConfigError>([&] { config.merge_from_file(file); },
                              {file.string() + ":3", "\"SOLVER.BASE_LRR\"", "did you mean \"SOLVER.BASE_LR\""});
  expect_message<ConfigError>([&] { apply(config, {"SOVLER.MAX_ITER", "1"}); },
                              {"command line", "\"SOVLER.MAX_ITER\"", "\"SOLVER.MAX_ITER\""});
  expect_message<ConfigError>([&] { apply(config, {"SOLVER.EVAL_PERIOD", "1"}); },
                              {"\"SOLVER.EVAL_PERIOD\"", "\"TEST.EVAL_PERIOD\""});
  expect_message<ConfigError>([&] { apply(config, {"solver.base_lr", "1"}); }, {"\"solver.base_lr\"", "\"SOLVER.BASE_LR\""});
  expect_message<ConfigError>([&] { apply(config, {"MAX_ITER", "1"}); }, {"\"SOLVER.MAX_ITER\""});
  expect_message<ConfigError>([&] { apply(config, {"SOLVER.STEPS.0", "1"}); },
                              {"\"SOLVER.STEPS.0\"", "SOLVER.STEPS is a value, not a section"});
  expect_message<ConfigError>([&] { apply(config, {"SOLVER.BASE_LR=0.1", "1"}); }, {"\"SOLVER.BASE_LR=0.1\"", "SOLVER.BASE_LR"});
  const std::string hopeless = message_of<ConfigError>([&] { apply(config, {"QQQQQQQQQQ", "1"}); });
  EXPECT_EQ(hopeless.find("did you mean"), std::string::npos) << hopeless;
  for (const char* key : {"", ".", "SOLVER.", ".SOLVER", "SOLVER..BASE_LR"}) {
    message_of<ConfigError>([&] { apply(config, {key, "1"}); });
  }
  try {
    apply(config, {"NO.SUCH", "1"});
    ADD_FAILURE();
  } catch (const ConfigError& error) {
    EXPECT_EQ(error.key(), "NO.SUCH");
  }
}

TEST(Merge, AWrongTypeSaysWhatWasExpectedAndBothOrigins) {
  Config config = tree();
  const Folder folder;
  const auto first = folder.write("a.yaml", "\nCOUNT: 5\n");
  const auto second = folder.write("b.yaml", "COUNT: many\n");
  config.merge_from_file(first);
  expect_message<ConfigError>([&] { config.merge_from_file(second); }, {second.string() + ":1", "COUNT", "expects int", "5",
                                                                        first.string() + ":2", "found string 'many'"});
  expect_message<ConfigError>([&] { apply(config, {"FLAG", "yes"}); }, {"command line", "FLAG", "expects bool", "True or False"});
  expect_message<ConfigError>([&] { apply(config, {"NAME", "123"}); }, {"NAME", "expects string", "found int 123", "\"'123'\""});
  apply(config, {"NAME", "'123'"});
  EXPECT_EQ(config.get_string("NAME"), "123");
  const auto section = folder.write("c.yaml", "SECTION: 5\n");
  expect_message<ConfigError>([&] { config.merge_from_file(section); },
                              {section.string() + ":1", "SECTION", "section", "found int 5"});
  const auto leaf = folder.write("d.yaml", "COUNT:\n  A: 1\n");
  expect_message<ConfigError>([&] { config.merge_from_file(leaf); }, {leaf.string() + ":1", "COUNT", "5", first.string() + ":2"});
  const std::string long_text = message_of<ConfigError>([&] { apply(config, {"COUNT", std::string(5000, 'x')}); });
  EXPECT_LT(long_text.size(), 300u);
  expect_message<ConfigError>([&] { apply(config, {"NAME", "1j"}); }, {"NAME", "complex"});
}

TEST(Merge, OverridesComeInPairs) {
  Config config = tree();
  expect_message<ConfigError>([&] { apply(config, {"COUNT", "2", "RATE"}); }, {"RATE", "no value"});
  expect_message<ConfigError>([&] { apply(config, {"_BASE_", "x"}); }, {"_BASE_"});
  expect_message<ConfigError>([&] { config.merge_from_list(List{5, 1}); }, {"command line", "5"});
  EXPECT_EQ(config.get_int("COUNT"), 1);
  // A file could not give it back.
  expect_message<ConfigError>(
      [&] {
        config.merge_from_list(List{"NAME",
                                    "b\xE9"
                                    "d"});
      },
      {"command line", "NAME", "UTF-8"});
  config.merge_from_list(List{"NAME", "b\u00e9d"});
  config.merge_from_list(List{"COUNT", 4, "NAME", "'quoted'"});
  EXPECT_EQ(config.get_int("COUNT"), 4);
  EXPECT_EQ(config.get_string("NAME"), "quoted");
  EXPECT_EQ(config.origin("COUNT").to_string(), "command line");
  apply(config, {});
}

TEST(Merge, AFailureChangesNothing) {
  Config config = tree();
  const Folder folder;
  const std::string before = config.dump();
  message_of<ConfigError>([&] { apply(config, {"COUNT", "2", "NO_SUCH", "1"}); });
  message_of<ConfigError>([&] { config.merge_from_file(folder.write("a.yaml", "COUNT: 2\nRATE: x\n")); });
  message_of<ConfigError>([&] { config.merge(Config::parse("COUNT: 2\nRATE: x\n")); });
  EXPECT_EQ(config.dump(), before);
  EXPECT_TRUE(config.origin("COUNT").to_string() == "text:2");
  EXPECT_TRUE(config.files().empty());
}

TEST(Merge, OneTreeIntoAnother) {
  Config config = tree();
  config.merge(Config::parse("COUNT: 9\nNAME: \"'(1, 2)'\"\nSECTION: {OTHER: {DEEP: 3}}\n", "mine"));
  EXPECT_EQ(config.get_int("COUNT"), 9);
  EXPECT_EQ(config.get_string("NAME"), "(1, 2)");  // decoded once, not twice
  EXPECT_EQ(config.get_int("SECTION.OTHER.DEEP"), 3);
  EXPECT_EQ(config.origin("COUNT").to_string(), "mine:1");
}

TEST(Merge, AFrozenConfigRefusesEveryChange) {
  Config config = tree();
  const Folder folder;
  const auto file = folder.write("a.yaml", "COUNT: 2\n");
  config.freeze();
  EXPECT_TRUE(config.frozen());
  expect_message<ConfigError>([&] { config.merge_from_file(file); }, {"frozen"});
  expect_message<ConfigError>([&] { apply(config, {"COUNT", "2"}); }, {"frozen"});
  expect_message<ConfigError>([&] { config.merge(tree()); }, {"frozen"});
  expect_message<ConfigError>([&] { config.set("COUNT", 2); }, {"frozen"});
  expect_message<ConfigError>([&] { config.declare("NEW", 2); }, {"frozen"});
  expect_message<ConfigError>([&] { config.allow_new_keys(); }, {"frozen"});
  expect_message<ConfigError>([&] { config.register_deprecated_key("A"); }, {"frozen"});
  expect_message<ConfigError>([&] { config.register_renamed_key("A", "B"); }, {"frozen"});
  EXPECT_EQ(config.dump(), tree().dump());

  Config copy = config;
  EXPECT_TRUE(copy.frozen());
  Config clone = config.clone();
  EXPECT_FALSE(clone.frozen());
  clone.set("COUNT", 3);
  EXPECT_EQ(clone.origin("COUNT").to_string(), "code");
  EXPECT_EQ(config.get_int("COUNT"), 1);
  copy = clone;
  EXPECT_EQ(copy.get_int("COUNT"), 3);
}

TEST(Merge, NewKeysWhereTheyAreAllowed) {
  Config config = tree();
  const Folder folder;
  const auto file = folder.write("a.yaml", "SECTION:\n  NEW: (1, 2)\n  OTHER: {MORE: {STILL: 1}}\n");
  message_of<ConfigError>([&] { config.merge_from_file(file); });
  config.allow_new_keys("SECTION");
  config.merge_from_file(file);
  expect_value(config.at("SECTION.NEW"), (Tuple{1, 2}));
  EXPECT_EQ(config.origin("SECTION.NEW").to_string(), file.string() + ":2");
  EXPECT_EQ(config.get_int("SECTION.OTHER.MORE.STILL"), 1);
  config.merge_from_file(folder.write("b.yaml", "SECTION: {OTHER: {MORE: {ALSO: x}}}\n"));
  EXPECT_EQ(config.get_string("SECTION.OTHER.MORE.ALSO"), "x");
  message_of<ConfigError>([&] { config.merge_from_file(folder.write("c.yaml", "TOP: 1\n")); });
  message_of<ConfigError>([&] { apply(config, {"SECTION.TYPO", "1"}); });  // a typing error on the command line makes no key
  config.allow_new_keys("SECTION", false);
  message_of<ConfigError>([&] { config.merge_from_file(folder.write("d.yaml", "SECTION: {LATE: 1}\n")); });
  expect_message<ConfigError>([&] { config.allow_new_keys("COUNT"); }, {"COUNT", "not a section"});
  expect_message<ConfigError>([&] { config.allow_new_keys("NOPE"); }, {"NOPE"});
}

TEST(Merge, DeclaredKeysBehaveLikeDefaults) {
  Config config = tree();
  config.declare("MINE.DEEP.RATE", 0.5);
  config.declare("MINE.STEPS", Tuple{1});
  EXPECT_EQ(config.origin("MINE.DEEP.RATE").to_string(), "default");
  apply(config, {"MINE.DEEP.RATE", "2", "MINE.STEPS", "[4, 5]"});
  EXPECT_EQ(config.get_double("MINE.DEEP.RATE"), 2.0);
  expect_value(config.at("MINE.STEPS"), (Tuple{4, 5}));
  for (const char* key : {"COUNT", "SECTION", "COUNT.X", "MINE.DEEP.RATE"}) {
    expect_message<ConfigError>([&] { config.declare(key, 1); }, {key, "exists already"});
  }
  for (const char* key : {"", ".", "A.", ".A", "A..B", "SECTION."}) message_of<ConfigError>([&] { config.declare(key, 1); });
  EXPECT_FALSE(config.contains("A"));
}

TEST(Merge, RetiredKeys) {
  Config config = tree();
  config.register_deprecated_key("OLD.ONE");
  config.register_deprecated_key("COUNT");
  config.register_renamed_key("OLD.TWO", "SECTION.KEY", "it counts from 1 now");
  const Folder folder;
  std::vector<std::string> lines;
  const LogCapture capture([&](LogLevel level, std::string_view line) {
    if (level == LogLevel::warning) lines.emplace_back(line);
  });
  apply(config, {"OLD.ONE", "1", "COUNT", "5"});
  EXPECT_EQ(config.get_int("COUNT"), 1);
  ASSERT_EQ(lines.size(), 2u);
  EXPECT_NE(lines[0].find("OLD.ONE"), std::string::npos);
  const auto file = folder.write("a.yaml", "OLD:\n  TWO: 1\n");
  expect_message<ConfigError>([&] { apply(config, {"OLD.TWO", "1"}); },
                              {"command line", "OLD.TWO", "SECTION.KEY", "it counts from 1 now"});
  config.register_deprecated_key("GONE");
  config.merge_from_file(folder.write("b.yaml", "GONE: 1\nCOUNT: 6\n"));
  EXPECT_EQ(config.get_int("COUNT"), 6);  // one that exists still takes values from files, as in yacs
  EXPECT_EQ(lines.size(), 3u);
}

TEST(Merge, ARetiredKeyThatIsThereOrMayBeAddedIsOneLikeAny) {
  Config config = Config::parse("A: 1\nS:\n  X: 1\n");
  config.allow_new_keys("S");
  for (const char* key : {"A", "S.OLD"}) config.register_deprecated_key(key);
  config.register_renamed_key("S.MOVED", "S.X");
  config.merge(Config::parse("A: 2\nS:\n  OLD: 3\n  MOVED: 4\n"));
  EXPECT_EQ(config.get_int("A"), 2);
  EXPECT_EQ(config.get_int("S.OLD"), 3);
  EXPECT_EQ(config.get_int("S.MOVED"), 4);
  const LogCapture quiet([](LogLevel, std::string_view) {});
  config.merge_from_list(std::vector<std::string>{"A", "5", "S.OLD", "6"});
  EXPECT_EQ(config.get_int("A"), 2);
  EXPECT_EQ(config.get_int("S.OLD"), 3);
  message_of<ConfigError>([&] { config.merge_from_list(std::vector<std::string>{"S.MOVED", "7"}); });
}

TEST(Merge, NullAndAMappingDoNotReplaceEachOther) {
  Config config = Config::parse("NOTHING: null\nTABLE: \"{'a': 1}\"\n");
  message_of<ConfigError>([&] { config.set("NOTHING", Dict{{"a", 1}}); });
  message_of<ConfigError>([&] { config.set("TABLE", nullptr); });
}

}  // namespace
}  // namespace treadle

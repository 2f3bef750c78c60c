#include <treadle/config/config.hpp>
#include <treadle/config/defaults.hpp>

#include "tests/config/helpers.hpp"
#include "tests/support/source_folder.hpp"

namespace treadle {
namespace {

Config tree() {
  return Config::parse(
      "FLAG: true\nCOUNT: 3\nRATE: 0.5\nNAME: x\nINTS: (1, 2)\nMIXED: [1, 2.5]\nNAMES: [a, b]\nNOTHING: null\nSECTION:\n  KEY: "
      "1\n  DEEP: {ER: z}\n",
      "t.yaml");
}

TEST(Access, EveryGetter) {
  const Config config = tree();
  EXPECT_TRUE(config.get_bool("FLAG"));
  EXPECT_EQ(config.get_int("COUNT"), 3);
  EXPECT_EQ(config.get_double("RATE"), 0.5);
  EXPECT_EQ(config.get_double("COUNT"), 3.0);
  EXPECT_EQ(config.get_string("NAME"), "x");
  EXPECT_EQ(config.get_ints("INTS"), (std::vector<std::int64_t>{1, 2}));
  EXPECT_EQ(config.get_doubles("MIXED"), (std::vector<double>{1.0, 2.5}));
  EXPECT_EQ(config.get_doubles("INTS"), (std::vector<double>{1.0, 2.0}));
  EXPECT_EQ(config.get_strings("NAMES"), (std::vector<std::string>{"a", "b"}));
  EXPECT_EQ(config.get_optional_int("COUNT"), 3);
  EXPECT_EQ(config.get_optional_int("NOTHING"), std::nullopt);
  EXPECT_EQ(config.get_optional_double("RATE"), 0.5);
  EXPECT_EQ(config.get_optional_double("NOTHING"), std::nullopt);
  EXPECT_TRUE(config.is_null("NOTHING"));
  EXPECT_FALSE(config.is_null("COUNT"));
}

TEST(Access, AGetterOfAnotherTypeSaysWhatItFoundAndWhere) {
  const Config config = tree();
  expect_message<ConfigError>([&] { config.get_bool("COUNT"); }, {"t.yaml:2", "COUNT", "a bool", "found int 3"});
  expect_message<ConfigError>([&] { config.get_int("RATE"); }, {"t.yaml:3", "RATE", "an int", "found float 0.5"});
  expect_message<ConfigError>([&] { config.get_int("FLAG"); }, {"an int", "found bool True"});
  expect_message<ConfigError>([&] { config.get_double("NAME"); }, {"a number", "found string 'x'"});
  expect_message<ConfigError>([&] { config.get_double("FLAG"); }, {"a number", "found bool"});
  expect_message<ConfigError>([&] { config.get_string("NOTHING"); }, {"a string", "found null"});
  expect_message<ConfigError>([&] { config.get_ints("MIXED"); }, {"t.yaml:6", "a list of ints", "found List [1, 2.5]"});
  expect_message<ConfigError>([&] { config.get_ints("COUNT"); }, {"a list of ints", "found int"});
  expect_message<ConfigError>([&] { config.get_doubles("NAMES"); }, {"a list of numbers"});
  expect_message<ConfigError>([&] { config.get_strings("INTS"); }, {"a list of strings", "found Tuple (1, 2)"});
  expect_message<ConfigError>([&] { config.get_optional_int("NAME"); }, {"an int"});
  expect_message<ConfigError>([&] { config.get_optional_double("NAME"); }, {"a number"});
  expect_message<ConfigError>([&] { config.get_int("SECTION"); }, {"SECTION", "section"});
  expect_message<ConfigError>([&] { config.get_int("COUNTS"); }, {"\"COUNTS\"", "did you mean \"COUNT\""});
  expect_message<ConfigError>([&] { config.origin("SECTION.KEYY"); }, {"\"SECTION.KEYY\"", "\"SECTION.KEY\""});
  expect_message<ConfigError>([&] { config.at("COUNT.X"); }, {"\"COUNT.X\""});
  expect_message<ConfigError>([&] { config.at(""); }, {""});
}

TEST(Access, Structure) {
  const Config config = tree();
  EXPECT_TRUE(config.contains("SECTION.DEEP"));
  EXPECT_TRUE(config.contains("SECTION.DEEP.ER"));
  EXPECT_FALSE(config.contains("SECTION.NOPE"));
  EXPECT_FALSE(config.contains("COUNT.X"));
  EXPECT_FALSE(config.contains(""));
  EXPECT_TRUE(config.is_section("SECTION"));
  EXPECT_FALSE(config.is_section("COUNT"));
  EXPECT_EQ(config.keys("SECTION"), (std::vector<std::string>{"SECTION.KEY", "SECTION.DEEP.ER"}));
  expect_value(config.to_dict("SECTION"), Dict({{"KEY", 1}, {"DEEP", Dict({{"ER", "z"}})}}));
  EXPECT_EQ(config.to_dict().size(), 9u);
  expect_message<ConfigError>([&] { config.to_dict("COUNT"); }, {"COUNT", "not a section"});
  expect_message<ConfigError>([&] { config.keys("NOPE"); }, {"NOPE"});
  EXPECT_TRUE(Config().keys().empty());
}

TEST(Access, ChecksBeyondTheTypeNameTheValueAndItsOrigin) {
  const Config config = tree();
  expect_message<ConfigError>([&] { config.fail("COUNT", "must be even"); }, {"COUNT is 3 (t.yaml:2): must be even"});
  try {
    config.fail("SECTION.KEY", "no");
  } catch (const ConfigError& error) {
    EXPECT_EQ(error.key(), "SECTION.KEY");
  }
}

TEST(Defaults, TheTableIsTheTree) {
  const Config config = default_config();
  const Config read = Config::parse(default_config_text(), "default");
  EXPECT_EQ(config.keys(), read.keys());
  for (const std::string& key : config.keys()) EXPECT_EQ(config.origin(key).to_string(), "default") << key;
  EXPECT_EQ(config.get_int("TREADLE.THREADS"), 0);
  EXPECT_EQ(config.get_string("TREADLE.DATA_DIR"), "");
  EXPECT_EQ(config.get_string("OUTPUT_DIR"), "./output");
  EXPECT_EQ(config.get_int("SEED"), -1);
  EXPECT_FALSE(config.frozen());
  std::ifstream file(source_folder() + "/configs/defaults.yaml");
  const std::string text{std::istreambuf_iterator<char>(file), {}};
  EXPECT_EQ(text, default_config_text());
}

}  // namespace
}  // namespace treadle

#include "tests/reference/configs_expect.hpp"
#include "tests/support/temporary_folder.hpp"

#include <treadle/base/errors.hpp>
#include <treadle/base/log.hpp>
#include <treadle/config/auto_scale.hpp>
#include <treadle/config/defaults.hpp>
#include <treadle/config/versions.hpp>

#include <gtest/gtest.h>

#include <functional>
#include <iostream>
#include <regex>
#include <set>
#include <sstream>

namespace treadle {
namespace {

TEST(ReferenceConfigs, EveryKindHasATest) {
  const std::set<std::string> known{"defaults", "yaml_file",  "yaml_error", "yaml_file_new_allowed",
                                    "yaml_set", "merge_list", "ops",        "auto_scale_workers"};
  for (const Json& one : cases_of("")) EXPECT_TRUE(known.contains(one.at("kind"))) << one.at("kind");
}

TEST(ReferenceConfigs, Defaults) {
  TREADLE_FOR_EACH_CASE(one, "defaults") {
    const Json& expect = one.at("expect");
    const Config config = default_config();
    expect_same(leaves(config), expected_leaves(expect.at("merged")), true);
    expect_same(leaves(config), to_leaves(expect.at("flat")));
    expect_dump_text(config, expect.at("dump"));
    expect_round_trip(config);
  }
}

TEST(ReferenceConfigs, YamlFiles) {
  const std::optional<std::filesystem::path> folder = yaml_folder();
  if (!folder) GTEST_SKIP() << "the YAML inputs are not here: no folder yaml beside configs.json";
  TREADLE_FOR_EACH_CASE(one, "yaml_file") {
    const Json& expect = one.at("expect");
    Config config = default_config();
    LogLines log;
    const Thrown thrown = thrown_by([&] { config.merge_from_file(*folder / one["input"]["path"].get<std::string>()); });
    ASSERT_EQ(thrown.kind, Thrown::Kind::none) << thrown.message;
    expect_same(leaves(config), expected_leaves(expect.at("merged")), true);
    expect_same(changed_leaves(default_config(), config), to_leaves(expect.at("changed")));
    EXPECT_EQ(relative_files(config, *folder), files_once(one["input"]["base_chain"]));
    EXPECT_EQ(log.warnings.size(), warnings_of(expect));
    if (expect.contains("dump")) expect_dump_text(config, expect["dump"]);
    expect_round_trip(config);
  }
}

TEST(ReferenceConfigs, YamlFilesThatNeedKeysOfTheirOwn) {
  const std::optional<std::filesystem::path> folder = yaml_folder();
  if (!folder) GTEST_SKIP() << "the YAML inputs are not here: no folder yaml beside configs.json";
  TREADLE_FOR_EACH_CASE(one, "yaml_error") {
    Config config = default_config();
    const Thrown thrown = thrown_by([&] { config.merge_from_file(*folder / one["input"]["path"].get<std::string>()); });
    if (is_integer_for_float(one.at("expect")) && is_mended("integer-for-float")) {
      EXPECT_EQ(thrown.kind, Thrown::Kind::none) << thrown.message;
      continue;
    }
    expect_error(thrown, one.at("expect"));
    EXPECT_TRUE(changed_leaves(default_config(), config).empty());
  }
  TREADLE_FOR_EACH_CASE(one, "yaml_file_new_allowed") {
    const Json& expect = one.at("expect");
    Config config = default_config();
    config.allow_new_keys();
    const Thrown thrown = thrown_by([&] { config.merge_from_file(*folder / one["input"]["path"].get<std::string>()); });
    if (expect.contains("exc") || expect.contains("raised")) {
      const Json& raised = expect.contains("raised") ? expect["raised"] : expect;
      if (is_integer_for_float(raised) && is_mended("integer-for-float")) {
        EXPECT_EQ(thrown.kind, Thrown::Kind::none) << thrown.message;
      } else {
        expect_error(thrown, raised);
      }
      continue;
    }
    ASSERT_EQ(thrown.kind, Thrown::Kind::none) << thrown.message;
    expect_same(changed_leaves(default_config(), config), to_leaves(expect.at("changed")));
    EXPECT_EQ(relative_files(config, *folder), files_once(one["input"]["base_chain"]));
    expect_round_trip(config, true);
  }
}

/// `deprecated A and B; renamed X->Y, Z->W (message 'text')`
void prepare(Config& config, const std::string& text) {
  const std::size_t semicolon = text.find(';');
  static const std::regex word(R"([A-Z][A-Z0-9_.]*)"), rename(R"(([A-Z0-9_.]+)->([A-Z0-9_.]+)(?: \(message '([^']*)'\))?)");
  const std::string deprecated = text.substr(0, semicolon), renamed = text.substr(semicolon);
  for (std::sregex_iterator match(deprecated.begin(), deprecated.end(), word), end; match != end; ++match) {
    config.register_deprecated_key(match->str());
  }
  for (std::sregex_iterator match(renamed.begin(), renamed.end(), rename), end; match != end; ++match) {
    config.register_renamed_key((*match)[1], (*match)[2], (*match)[3]);
  }
}

std::string bytes_of(const Json& content, const std::string& folder) {
  if (content.is_string()) return std::regex_replace(content.get<std::string>(), std::regex("<DIR>"), folder);
  std::string bytes;
  const std::string hex = content.at("hex");
  for (std::size_t i = 0; i < hex.size(); i += 2) bytes += static_cast<char>(std::stoi(hex.substr(i, 2), nullptr, 16));
  return bytes;
}

bool uses_python_objects(const Json& files) {
  for (const Json& content : files) {
    if (content.is_string() && content.get<std::string>().find("!!python/object") != std::string::npos) return true;
  }
  return false;
}

bool has_big_integer(const Json& expect) { return expect.dump().find("\"bigint\"") != std::string::npos; }

/// A merge into the defaults that yacs refuses is refused, and leaves them as they were.
void expect_refusal(const Thrown& thrown, const Json& raised, const Config& config) {
  if (is_integer_for_float(raised) && is_mended("integer-for-float")) {
    ASSERT_EQ(thrown.kind, Thrown::Kind::none) << thrown.message;
    EXPECT_TRUE(config.at(key_in(raised["msg"])).is(Value::Type::real));
    return;
  }
  expect_error(thrown, raised);
  ASSERT_TRUE(is_mended("failed-merge-changes-nothing"));
  EXPECT_TRUE(changed_leaves(default_config(), config).empty());
  EXPECT_TRUE(config.files().empty());
}

TEST(ReferenceConfigs, YamlText) {
  TREADLE_FOR_EACH_CASE(one, "yaml_set") {
    const Json& input = one.at("input");
    const Json& expect = one.at("expect");
    TemporaryFolder folder;
    for (const auto& [name, content] : input.at("files").items()) {
      std::filesystem::create_directories((folder.path() / name).parent_path());
      write_text(folder.path() / name, bytes_of(content, folder.path().string()));
    }
    Config config = default_config();
    if (input.contains("prepared")) prepare(config, input["prepared"]);
    LogLines log;
    const Thrown thrown = thrown_by([&] {
      config.merge_from_file(folder.path() / input.at("load").get<std::string>(),
                             {.evaluate = input.value("allow_unsafe", true)});
    });
    if (has_big_integer(expect) && is_mended("integers-of-64-bits")) {
      EXPECT_EQ(thrown.kind, Thrown::Kind::config) << thrown.message;
      continue;
    }
    if (expect.contains("raised")) {
      expect_refusal(thrown, expect["raised"], config);
      continue;
    }
    if (thrown.kind == Thrown::Kind::config && uses_python_objects(input["files"]) && is_mended("no-code")) continue;
    ASSERT_EQ(thrown.kind, Thrown::Kind::none) << thrown.message;
    expect_same(changed_leaves(default_config(), config), to_leaves(expect.at("changed")));
    EXPECT_TRUE(expect.at("removed").empty());
    EXPECT_EQ(log.warnings.size(), warnings_of(expect));
    std::vector<std::string> chain;
    for (const std::string& file : files_once(expect["base_chain"])) {
      chain.push_back(
          std::filesystem::path(bytes_of(file, folder.path().string())).lexically_relative(folder.path()).lexically_normal());
    }
    EXPECT_EQ(relative_files(config, folder.path()), chain);
    expect_dump_lines(config, expect);
    expect_round_trip(config);
  }
}

TEST(ReferenceConfigs, Overrides) {
  TREADLE_FOR_EACH_CASE(one, "merge_list") {
    const Json& input = one.at("input");
    const Json& expect = one.at("expect");
    Config config = default_config();
    if (input.contains("prepared")) prepare(config, input["prepared"]);
    if (input.value("frozen", false)) config.freeze();
    LogLines log;
    const Thrown thrown = thrown_by([&] { config.merge_from_list(to_value(input.at("list")).value().as_list()); });

    bool replaces_section = false;
    for (std::size_t i = 1; i < input["list"].size(); i += 2) {
      const Json& key = input["list"][i - 1];
      replaces_section =
          replaces_section || (input["list"][i].is_object() && key.is_string() && config.is_section(key.get<std::string>()));
    }
    const bool refused = (input.value("frozen", false) && is_mended("frozen-refuses-merges")) ||
                         (expect.contains("dump_raised") && is_mended("undumpable-literals-refused")) ||
                         (replaces_section && is_mended("sections-are-not-replaced")) ||
                         (has_big_integer(expect) && is_mended("integers-of-64-bits"));
    if (refused) {
      EXPECT_EQ(thrown.kind, Thrown::Kind::config) << thrown.message;
      EXPECT_TRUE(changed_leaves(default_config(), config).empty());
      continue;
    }
    if (expect.contains("raised")) {
      expect_refusal(thrown, expect["raised"], config);
      continue;
    }
    ASSERT_EQ(thrown.kind, Thrown::Kind::none) << thrown.message;
    for (const Json& triple : expect.at("values")) {
      if (triple[2] == "absent") {
        EXPECT_FALSE(config.contains(triple[0].get<std::string>()));
        continue;
      }
      EXPECT_TRUE(identical(config.at(triple[0].get<std::string>()), to_value(triple[1]).value())) << triple;
    }
    std::size_t deprecated = 0;
    for (const Json& line : expect.at("logs")) deprecated += line.get<std::string>().starts_with("Deprecated") ? 1 : 0;
    EXPECT_EQ(log.warnings.size(), deprecated);
    expect_dump_lines(config, expect);
    expect_round_trip(config);
  }
}

TEST(ReferenceConfigs, AutoScaleWorkers) {
  TREADLE_FOR_EACH_CASE(one, "auto_scale_workers") {
    const Json& input = one.at("input");
    const Json& expect = one.at("expect");
    Config config = default_config();
    for (const auto& [key, value] : input.at("overrides").items()) config.set(key, to_value(value).value());
    if (input.at("frozen")) config.freeze();
    const std::map<std::string, Value> before = leaves(config);
    LogLines log;
    Config scaled;
    const Thrown thrown = thrown_by([&] { scaled = auto_scale_workers(config, input.at("num_workers")); });
    expect_same(leaves(config), before);
    if (expect.contains("raised")) {
      EXPECT_EQ(thrown.kind, Thrown::Kind::config) << thrown.message;
      continue;
    }
    ASSERT_EQ(thrown.kind, Thrown::Kind::none) << thrown.message;
    for (const Json& pair : expect.at("values")) {
      EXPECT_TRUE(identical(scaled.at(pair[0].get<std::string>()), to_value(pair[1]).value())) << pair;
    }
    EXPECT_EQ(scaled.frozen(), expect.at("frozen").get<bool>());
    EXPECT_EQ(log.infos.size(), expect.at("logs").size());
  }
}

void check_version_script(int version, const Json& expect) {
  const Config fresh = default_config();
  if (expect.contains("raised")) {
    EXPECT_EQ(thrown_by([&] { downgrade_config(fresh, version); }).kind, Thrown::Kind::config);
    return;
  }
  const Json& result = expect.at("result");
  const Config old = downgrade_config(fresh, version);
  EXPECT_EQ(old.get_int("VERSION"), result.at("version").get<int>());
  std::map<std::string, Value> added = changed_leaves(fresh, old);
  added.erase("VERSION");
  expect_same(added, to_leaves(result.at("added")));
  std::vector<std::string> removed;
  for (const auto& [key, value] : leaves(fresh)) {
    if (!old.contains(key)) removed.push_back(key);
  }
  EXPECT_EQ(removed, result.at("removed").get<std::vector<std::string>>());
  if (result.value("round_trip_equal", false)) expect_same(leaves(upgrade_config(old)), leaves(fresh));
}

void check_dump_script(const Json& tree, const Json& expect) {
  Config config;
  for (const auto& [key, value] : tree.items()) config.declare(key, to_value(value).value());
  const std::set<std::string> lines = line_set(config.dump());
  std::istringstream stream(expect.at("result").get<std::string>());
  std::string key;
  for (std::string line; std::getline(stream, line);) {
    if (line[0] != ' ' && line[0] != '-') key = line.substr(0, line.find(':'));
    const Value& value = config.at(key);
    if (dump_may_differ(value) || (has_nested_tuple(value) && is_mended("dump-restores"))) continue;
    EXPECT_TRUE(lines.contains(line)) << "the dump lacks the line " << line;
  }
  expect_same(leaves(Config::parse(config.dump())), leaves(config), true);
}

/// Scripts over Python's objects: those with a counterpart here are run, the others are listed with the reason.
TEST(ReferenceConfigs, Scripts) {
  static const std::regex frozen_set(R"(^freeze\(\); cfg\.([A-Z_.]+) = ([0-9.]+)$)"), access(R"(^cfg\.([A-Z_.]+)$)"),
      untyped_set(R"(^cfg\.([A-Z_.]+) = '([^']*)'.*)"), downgrade(R"(^downgrade_config\(defaults, (\d+)\).*)");
  TREADLE_FOR_EACH_CASE(one, "ops") {
    const Json& what = one.at("input").at("what");
    const Json& expect = one.at("expect");
    Config config = default_config();
    std::smatch match;
    const std::string script = what.is_string() ? what.get<std::string>() : "";
    if (what.is_object()) {
      check_dump_script(what, expect);
    } else if (std::regex_match(script, match, downgrade)) {
      check_version_script(std::stoi(match[1]), expect);
    } else if (std::regex_match(script, match, frozen_set) && expect.contains("raised")) {
      config.freeze();
      EXPECT_EQ(thrown_by([&] { config.set(match[1].str(), std::stod(match[2])); }).kind, Thrown::Kind::config);
    } else if (std::regex_match(script, match, access) && expect.contains("raised")) {
      EXPECT_EQ(thrown_by([&] { config.at(match[1].str()); }).kind, Thrown::Kind::config);
    } else if (std::regex_match(script, match, untyped_set) && is_mended("assignment-checks-types")) {
      EXPECT_EQ(thrown_by([&] { config.set(match[1].str(), match[2].str()); }).kind, Thrown::Kind::config);
    } else {
      std::cout << "not run, it is about Python's objects (attributes, sets, str and repr of nodes): " << what << "\n";
    }
  }
}

}  // namespace
}  // namespace treadle

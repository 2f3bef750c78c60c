#include "tests/reference/configs_expect.hpp"
#include "tests/support/temporary_folder.hpp"

#include <treadle/base/errors.hpp>
#include <treadle/config/defaults.hpp>

#include <gtest/gtest.h>

#include <regex>
#include <sstream>

namespace treadle {

Thrown thrown_by(const std::function<void()>& action) {
  try {
    action();
  } catch (const ConfigError& error) {
    return {Thrown::Kind::config, error.what(), error.key()};
  } catch (const IoError& error) {
    return {Thrown::Kind::io, error.what(), {}};
  } catch (const FormatError& error) {
    return {Thrown::Kind::format, error.what(), {}};
  } catch (const std::exception& error) {
    return {Thrown::Kind::other, error.what(), {}};
  }
  return {};
}

Thrown::Kind kind_of(const std::string& exception) {
  if (exception == "FileNotFoundError" || exception == "IsADirectoryError") return Thrown::Kind::io;
  if (exception == "ScannerError" || exception == "ParserError" || exception == "ComposerError" || exception == "ReaderError" ||
      exception == "UnicodeDecodeError") {
    return Thrown::Kind::format;
  }
  return Thrown::Kind::config;
}

std::string key_in(const std::string& message) {
  static const std::regex unknown(R"(Non-existent (?:config )?key: ([^'"]+))"), mismatch(R"(for config key: (\S+)$)");
  std::smatch match;
  if (std::regex_search(message, match, unknown) || std::regex_search(message, match, mismatch)) return match[1];
  return {};
}

bool is_integer_for_float(const Json& raised) {
  return raised.at("msg").get<std::string>().starts_with("Type mismatch (<class 'float'> vs. <class 'int'>)");
}

void expect_error(const Thrown& thrown, const Json& raised) {
  ASSERT_NE(thrown.kind, Thrown::Kind::none) << "Python raises " << raised;
  ASSERT_NE(thrown.kind, Thrown::Kind::other) << thrown.message;
  const std::string exception = raised.at("exc");
  const bool missing_file = raised.at("msg").get<std::string>().ends_with("does not exist!");
  EXPECT_EQ(thrown.kind, missing_file || exception == "RecursionError" ? thrown.kind : kind_of(exception)) << thrown.message;
  if (missing_file) {
    EXPECT_EQ(thrown.kind, Thrown::Kind::io) << thrown.message;
  }
  EXPECT_EQ(thrown.message.find('\n'), std::string::npos) << thrown.message;
  if (const std::string key = key_in(raised.at("msg")); !key.empty()) {
    EXPECT_EQ(thrown.key, key) << thrown.message;
    EXPECT_NE(thrown.message.find(key), std::string::npos) << thrown.message;
  }
}

void expect_same(const std::map<std::string, Value>& found, const std::map<std::string, Value>& expected, bool lists_only) {
  for (const auto& [key, value] : expected) {
    const auto entry = found.find(key);
    if (entry == found.end()) {
      ADD_FAILURE() << key << " is missing";
      continue;
    }
    const Value& ours = entry->second;
    EXPECT_TRUE(identical(lists_only ? tuples_as_lists(ours) : ours, lists_only ? tuples_as_lists(value) : value))
        << key << ": " << describe(ours) << " where Python has " << describe(value);
  }
  for (const auto& [key, value] : found)
    EXPECT_TRUE(expected.contains(key)) << key << " = " << describe(value) << " is not Python's";
}
std::map<std::string, Value> to_leaves(const Json& pairs) {
  std::map<std::string, Value> result;
  for (const Json& pair : pairs) result[pair[0]] = to_value(pair[1]).value();
  return result;
}

std::set<std::string> line_set(const std::string& text) {
  const std::vector<std::string> lines = lines_of(text);
  return {lines.begin(), lines.end()};
}

void expect_round_trip(const Config& config, bool new_allowed) {
  TemporaryFolder folder;
  write_text(folder / "dump.yaml", config.dump());
  Config again = default_config();
  if (new_allowed) again.allow_new_keys();
  if (const Value& version = config.at("VERSION"); !version.is_null()) {
    const Thrown thrown = thrown_by([&] { again.merge_from_file(folder / "dump.yaml"); });
    ASSERT_EQ(thrown.kind, Thrown::Kind::none) << thrown.message;
    expect_same(leaves(again), leaves(config));
  }
  expect_same(leaves(Config::parse(config.dump())), leaves(config), true);
}

bool is_lost_in_plain_yaml(const std::string& text) {
  try {
    return !identical(Config::parse("K: " + Json(text).dump() + "\n").at("K"), text);
  } catch (const Error&) {
    return true;
  }
}

bool dump_may_differ(const Value& value) {
  if (!value.is(Value::Type::string)) return false;
  const std::string& text = value.as_string();
  const bool folded = text.find('\n') != std::string::npos || (text.size() > 60 && text.find(' ') != std::string::npos);
  return (folded && is_mended("dump-one-line")) || (is_lost_in_plain_yaml(text) && is_mended("dump-restores"));
}

bool has_tuple(const Value& value) {
  if (value.is(Value::Type::tuple)) return true;
  if (!value.is(Value::Type::list)) return false;
  const List& list = value.as_list();
  return std::any_of(list.begin(), list.end(), has_tuple);
}

bool has_nested_tuple(const Value& value) {
  if (value.is(Value::Type::tuple)) {
    return std::any_of(value.as_tuple().begin(), value.as_tuple().end(), has_tuple);
  }
  return has_tuple(value);
}

void expect_dump_lines(const Config& config, const Json& expect) {
  if (!expect.contains("dump_lines")) return;
  const Config fresh = default_config();
  for (const auto& [key, value] : changed_leaves(fresh, config)) {
    const bool tuple_without_default =
        value.is(Value::Type::tuple) && (!fresh.contains(key) || !fresh.at(key).is(Value::Type::tuple));
    if ((has_nested_tuple(value) || tuple_without_default) && is_mended("dump-restores")) return;
    if (dump_may_differ(value)) return;
  }
  const std::set<std::string> lines = line_set(config.dump());
  for (const Json& line : expect["dump_lines"]) EXPECT_TRUE(lines.contains(line)) << "the dump lacks the line " << line;
}

void expect_dump_text(const Config& config, const std::string& expected) {
  const Config theirs = Config::parse(expected);
  expect_same(leaves(config), leaves(theirs), true);
  const std::string text = config.dump();
  std::map<std::string, int> missing;
  std::istringstream stream(expected);
  const std::set<std::string> ours = line_set(text);
  for (std::string line; std::getline(stream, line);) {
    if (line.find("&id0") == std::string::npos && line.find("*id0") == std::string::npos && !ours.contains(line)) ++missing[line];
  }
  for (const auto& [line, count] : missing) {
    // The one leaf of the defaults that holds tuples in a tuple is written as a literal.
    const bool nested = is_mended("dump-restores") && (line.find("- - ") != std::string::npos || line.starts_with("      - "));
    EXPECT_TRUE(nested) << "the dump lacks the line " << line;
  }
}

std::size_t warnings_of(const Json& expect) {
  std::size_t count = 0;
  if (!expect.contains("warnings")) return 0;
  for (const Json& line : expect["warnings"]) {
    const bool about_code = line.get<std::string>().find("yaml.unsafe_load") != std::string::npos;
    if (!about_code || !is_mended("no-code")) ++count;
  }
  return count;
}

std::vector<std::string> files_once(const Json& chain) {
  std::vector<std::string> files;
  for (const auto& file : chain.get<std::vector<std::string>>()) {
    if (files.empty() || files.back() != file) files.push_back(file);
  }
  return files;
}

std::vector<std::string> relative_files(const Config& config, const std::filesystem::path& root) {
  std::vector<std::string> files;
  for (const std::string& file : config.files()) {
    files.push_back(std::filesystem::path(file).lexically_normal().lexically_relative(root.lexically_normal()).string());
  }
  return files;
}

}  // namespace treadle

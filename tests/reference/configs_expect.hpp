#pragma once

#include "tests/reference/configs_cases.hpp"

#include <gtest/gtest.h>

#include <functional>
#include <map>
#include <set>
#include <string>
#include <vector>

namespace treadle {

/// The error that `action` throws, or nothing.
struct Thrown {
  enum class Kind { none, config, io, format, other } kind = Kind::none;
  std::string message;
  std::string key;
};

Thrown thrown_by(const std::function<void()>& action);

/// Python's exception type as one of ours.
Thrown::Kind kind_of(const std::string& exception);

/// The key that Python's message names, when it names one.
std::string key_in(const std::string& message);

bool is_integer_for_float(const Json& raised);

void expect_error(const Thrown& thrown, const Json& raised);

/// The same leaves; `lists_only` takes a Tuple for the List of its elements.
void expect_same(const std::map<std::string, Value>& found, const std::map<std::string, Value>& expected,
                 bool lists_only = false);

std::map<std::string, Value> to_leaves(const Json& pairs);

std::set<std::string> line_set(const std::string& text);

/// What is dumped loads to the same, into the defaults as well as on its own.
void expect_round_trip(const Config& config, bool new_allowed = false);

/// Whether a string written in YAML's plain way comes back as something else, or not at all.
bool is_lost_in_plain_yaml(const std::string& text);

/// Whether the text Python dumps for a leaf loses something that ours keeps, or is folded.
bool dump_may_differ(const Value& value);

bool has_tuple(const Value& value);

bool has_nested_tuple(const Value& value);

void expect_dump_lines(const Config& config, const Json& expect);

/// Without anchors: Python names objects that happen to be shared.
void expect_dump_text(const Config& config, const std::string& expected);

std::size_t warnings_of(const Json& expect);

/// Python opens a file a second time for its unsafe loader.
std::vector<std::string> files_once(const Json& chain);

std::vector<std::string> relative_files(const Config& config, const std::filesystem::path& root);

#define TREADLE_FOR_EACH_CASE(one, kind) \
  for (const Json& one : cases_of(kind)) \
    if (::testing::ScopedTrace trace_of_case(__FILE__, __LINE__, one.at("id").get<std::string>()); true)

}  // namespace treadle

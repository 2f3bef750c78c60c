#include "tests/reference/configs_cases.hpp"
#include "tests/support/source_folder.hpp"

#include <treadle/base/errors.hpp>
#include <treadle/base/log.hpp>

#include <cstdlib>
#include <fstream>

namespace treadle {
namespace {

std::filesystem::path reference_folder() {
  const char* folder = std::getenv("TREADLE_REFERENCE_DIR");
  return folder && *folder ? folder : treadle::source_folder() + "/tests/reference";
}

Json read_json(const std::filesystem::path& path) {
  std::ifstream file(path);
  if (!file) throw Error("cannot open " + path.string());
  return Json::parse(file);
}

double to_double(const std::string& text) { return std::strtod(text.c_str(), nullptr); }

void collect(const Json& node, const std::string& path, std::map<std::string, Value>& leaves) {
  for (const auto& [key, child] : node.items()) {
    const std::string full = path.empty() ? key : path + "." + key;
    const bool section = child.is_object() && !child.contains("h") && !child.contains("tuple") && !child.contains("bigint");
    if (section) {
      collect(child, full, leaves);
    } else {
      leaves[full] = to_value(child).value();
    }
  }
}

}  // namespace

std::vector<Json> cases_of(std::string_view kind) {
  static const Json all = read_json(reference_folder() / "configs.json").at("cases");
  std::vector<Json> result;
  for (const Json& one : all) {
    if (kind.empty() || one.at("kind") == kind) result.push_back(one);
  }
  return result;
}

std::optional<std::filesystem::path> yaml_folder() {
  for (const std::filesystem::path& folder :
       {reference_folder() / "yaml", std::filesystem::path(treadle::source_folder() + "/../shared/reference/yaml")}) {
    if (std::filesystem::is_directory(folder)) return folder;
  }
  return std::nullopt;
}

bool is_mended(std::string_view rule) {
  static const Json all = read_json(treadle::source_folder() + "/tests/reference/differences.json");
  for (const Json& entry : all) {
    if (entry.at("family") == "configs" && entry.at("rule") == rule) return true;
  }
  return false;
}

std::optional<Value> to_value(const Json& json) {
  switch (json.type()) {
    case Json::value_t::null:
      return Value();
    case Json::value_t::boolean:
      return Value(json.get<bool>());
    case Json::value_t::number_integer:
    case Json::value_t::number_unsigned:
      return Value(json.get<std::int64_t>());
    case Json::value_t::string:
      return Value(json.get<std::string>());
    case Json::value_t::array: {
      List list;
      for (const Json& item : json) {
        const std::optional<Value> value = to_value(item);
        if (!value) return std::nullopt;
        list.push_back(*value);
      }
      return Value(std::move(list));
    }
    case Json::value_t::object:
      break;
    default:
      return std::nullopt;
  }
  if (json.contains("tuple")) {
    const std::optional<Value> items = to_value(json["tuple"]);
    if (!items) return std::nullopt;
    Tuple tuple;
    for (const Value& item : items->as_list()) tuple.push_back(item);
    return Value(std::move(tuple));
  }
  if (json.contains("h") && json["h"].is_string()) return Value(to_double(json["h"].get<std::string>()));
  if (json.contains("h")) {
    List list;
    for (const Json& item : json["h"]) list.push_back(to_double(item.get<std::string>()));
    return Value(std::move(list));
  }
  if (json.contains("exc") || json.contains("bigint") || json.contains("node")) return std::nullopt;
  Dict dict;
  for (const auto& [key, child] : json.items()) {
    const std::optional<Value> value = to_value(child);
    if (!value) return std::nullopt;
    dict.set(key, *value);
  }
  return Value(std::move(dict));
}

Value tuples_as_lists(const Value& value) {
  List list;
  if (value.is(Value::Type::list)) {
    for (const Value& item : value.as_list()) list.push_back(tuples_as_lists(item));
  } else if (value.is(Value::Type::tuple)) {
    for (const Value& item : value.as_tuple()) list.push_back(tuples_as_lists(item));
  } else {
    return value;
  }
  return list;
}

std::map<std::string, Value> leaves(const Config& config) {
  std::map<std::string, Value> result;
  for (const std::string& key : config.keys()) {
    if (!key.starts_with("TREADLE.")) result[key] = config.at(key);
  }
  return result;
}

std::map<std::string, Value> changed_leaves(const Config& before, const Config& config) {
  std::map<std::string, Value> result;
  for (const auto& [key, value] : leaves(config)) {
    if (!before.contains(key) || !identical(before.at(key), value)) result[key] = value;
  }
  return result;
}

std::map<std::string, Value> expected_leaves(const Json& tree) {
  std::map<std::string, Value> result;
  collect(tree, {}, result);
  return result;
}

struct LogLines::Capture : LogCapture {
  using LogCapture::LogCapture;
};

LogLines::LogLines()
    : capture_(std::make_unique<Capture>([this](LogLevel level, std::string_view message) {
        if (level == LogLevel::warning) warnings.emplace_back(message);
        if (level == LogLevel::info) infos.emplace_back(message);
      })) {}

LogLines::~LogLines() = default;

}  // namespace treadle

#pragma once

#include <treadle/config/config.hpp>

#include <filesystem>
#include <map>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace treadle {

using Json = nlohmann::ordered_json;

/// The cases of one kind.
std::vector<Json> cases_of(std::string_view kind);

/// The folder with the YAML inputs, or nothing: they are third-party files that the project does not carry.
std::optional<std::filesystem::path> yaml_folder();

/// True when `rule` of the family configs stands in differences.json: the test expects the mended behaviour by name only.
bool is_mended(std::string_view rule);

/// A value in the notation of the reference data; nothing for one that is no config value (`{"exc": …}`, `{"bigint": …}`).
std::optional<Value> to_value(const Json& json);

/// The same with every Tuple as a List.
Value tuples_as_lists(const Value& value);

/// All leaves by path, without the section of Treadle's own keys.
std::map<std::string, Value> leaves(const Config& config);

/// The leaves of `config` that `before` lacks or has otherwise.
std::map<std::string, Value> changed_leaves(const Config& before, const Config& config);

/// The leaves of a nested object in the notation of the reference data.
std::map<std::string, Value> expected_leaves(const Json& tree);

/// Log lines of a level while alive.
class LogLines {
 public:
  LogLines();
  ~LogLines();
  std::vector<std::string> warnings, infos;

 private:
  struct Capture;
  std::unique_ptr<Capture> capture_;
};

}  // namespace treadle

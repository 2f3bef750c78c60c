#pragma once

#include <tests/support/clock_keys.hpp>
#include <tests/support/temporary_folder.hpp>

#include <filesystem>
#include <nlohmann/json.hpp>
#include <vector>

namespace treadle {

/// The lines of the metrics.json in a folder, without what tells of time.
inline std::vector<nlohmann::json> metrics_without_clock(const std::filesystem::path& folder) {
  std::vector<nlohmann::json> lines;
  for (const std::string& line : lines_of(read_text(folder / "metrics.json"))) {
    nlohmann::json object = nlohmann::json::parse(line);
    for (const char* key : kClockKeys) object.erase(key);
    lines.push_back(object);
  }
  return lines;
}

}  // namespace treadle

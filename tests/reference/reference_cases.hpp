#pragma once

#include <treadle/base/errors.hpp>

#include <nlohmann/json.hpp>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <string>

#include "tests/support/source_folder.hpp"

/// The folder of the reference data: TREADLE_REFERENCE_DIR, or the project's own copy.
inline std::filesystem::path reference_folder() {
  const char* folder = std::getenv("TREADLE_REFERENCE_DIR");
  return folder && *folder ? folder : treadle::source_folder() + "/tests/reference";
}

/// The cases of one family, in the order of the file. A file without any is an Error: a test that looks at nothing must not pass.
inline nlohmann::ordered_json reference_cases(const std::string& family) {
  std::filesystem::path path = reference_folder() / (family + ".json");
  std::ifstream file(path);
  if (!file) throw treadle::Error("cannot open " + path.string());
  nlohmann::ordered_json cases = nlohmann::ordered_json::parse(file).value("cases", nlohmann::ordered_json());
  if (!cases.is_array() || cases.empty()) throw treadle::Error(path.string() + " has no cases");
  return cases;
}

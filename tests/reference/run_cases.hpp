#pragma once

#include <gtest/gtest.h>

#include <map>

#include "tests/reference/reference_cases.hpp"

using RunCase = void (*)(const nlohmann::ordered_json& input, const nlohmann::ordered_json& expect);

/// Runs every case of `family` by the function for its kind. Fails the test for a kind without one, and for what a function
/// throws.
inline void run_cases(const std::string& family, const std::map<std::string, RunCase>& runs) {
  for (const nlohmann::ordered_json& item : reference_cases(family)) {
    SCOPED_TRACE(item.at("id").get<std::string>());
    const auto run = runs.find(item.at("kind").get<std::string>());
    ASSERT_NE(run, runs.end()) << "no test for cases of kind " << item["kind"];
    try {
      run->second(item.at("input"), item.at("expect"));
    } catch (const std::exception& error) {
      ADD_FAILURE() << "raised: " << error.what();
    }
  }
}

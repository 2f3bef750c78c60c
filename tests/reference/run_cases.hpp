#pragma once

#include <gtest/gtest.h>

#include <map>

#include "tests/reference/reference_cases.hpp"

using RunCase = void (*)(const nlohmann::ordered_json& input, const nlohmann::ordered_json& expect);

/// Which cases to run, by what stands in the file about one.
using ChooseCase = bool (*)(const nlohmann::ordered_json& item);

/// Runs every case of `family` that is chosen by the function for its kind. Fails the test for a kind without one, for what a
/// function throws, and when no case is chosen.
inline void run_cases(
    const std::string& family, const std::map<std::string, RunCase>& runs,
    ChooseCase choose = [](const nlohmann::ordered_json&) { return true; }) {
  std::size_t chosen = 0;
  for (const nlohmann::ordered_json& item : reference_cases(family)) {
    if (!choose(item)) continue;
    ++chosen;
    SCOPED_TRACE(item.at("id").get<std::string>());
    const auto run = runs.find(item.at("kind").get<std::string>());
    ASSERT_NE(run, runs.end()) << "no test for cases of kind " << item["kind"];
    try {
      run->second(item.at("input"), item.at("expect"));
    } catch (const std::exception& error) {
      ADD_FAILURE() << "raised: " << error.what();
    }
  }
  EXPECT_GT(chosen, 0U) << "no case was run";
}

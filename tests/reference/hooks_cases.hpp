#pragma once

#include <treadle/base/log.hpp>
#include <treadle/engine/trainer_base.hpp>

#include <gtest/gtest.h>

#include <functional>
#include <set>
#include <string>
#include <vector>

#include "tests/reference/numbers.hpp"
#include "tests/reference/reference_cases.hpp"

namespace treadle::reference {

using nlohmann::ordered_json;

/// Calls `run` for every case of the family `hooks` that is of the kind `kind`. There may be none.
void each_hooks_case(const std::string& kind,
                     const std::function<void(const ordered_json& input, const ordered_json& expect)>& run);

/// Fails the test when differences.json does not list `rule` for this family.
void expect_listed(const std::string& rule);

/// What Python raised; empty when nothing.
inline std::string raised(const ordered_json& expect) {
  return expect.contains("raised") && !expect.at("raised").is_null() ? expect.at("raised").at("exc").get<std::string>() : "";
}

/// True when the case's own step raised, rather than a hook.
inline bool step_fails(const ordered_json& expect) { return !raised(expect).empty() && expect.at("raised").at("msg") == "boom"; }

/// The trainer that the cases were recorded with: a step that does what it is told.
struct TinyTrainer final : TrainerBase {
  using TrainerBase::TrainerBase;
  std::function<void()> step = [] {};
  void run_step() override { step(); }
  std::vector<std::string> logs;
  LogCapture capture{[this](LogLevel, std::string_view line) { logs.emplace_back(line); }};
};

/// Runs `train` and returns whether it threw.
inline bool train_fails(TrainerBase& trainer, std::int64_t start_iter, std::int64_t max_iter) {
  try {
    trainer.train(start_iter, max_iter);
    return false;
  } catch (const std::exception&) {
    return true;
  }
}

}  // namespace treadle::reference

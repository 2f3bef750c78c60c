#pragma once

#include <treadle/base/log.hpp>
#include <treadle/engine/trainer_base.hpp>

#include <functional>
#include <string>
#include <vector>

namespace treadle {

/// A trainer whose step is a function, and whose log is kept.
struct IdleTrainer final : TrainerBase {
  using TrainerBase::TrainerBase;
  std::function<void()> step = [] {};
  void run_step() override {
    step();
    after_backward();
  }
  std::vector<std::string> logs;
  LogCapture capture{[this](LogLevel, std::string_view line) { logs.emplace_back(line); }};
};

}  // namespace treadle

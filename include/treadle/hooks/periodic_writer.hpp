#pragma once

#include <treadle/engine/hook_base.hpp>
#include <treadle/events/writer.hpp>

#include <memory>
#include <string>
#include <utility>
#include <vector>

namespace treadle::hooks {

/// Lets writers write every `period` iterations and after the last, and closes them at the end. Loop thread only; on ranks other
/// than the main process it does nothing. A writer that the operating system refuses is paused with one warning. State: that of
/// each writer by its name, taken before the lines of the end of a stopped run, so that a resumed run replaces them.
class PeriodicWriter final : public HookBase {
 public:
  using NamedWriter = std::pair<std::string, std::unique_ptr<EventWriter>>;
  /// Writers by name, which stands in warnings and in the state ("metrics.json"). Throws ConfigError when `period` is below 1.
  explicit PeriodicWriter(std::vector<NamedWriter> writers, std::int64_t period = 20);
  Phase phase() const override { return Phase::reporting; }
  void after_step(TrainerBase& trainer) override;
  void after_train(TrainerBase& trainer) override;

  Dict state_dict() const override;
  void check_state_dict(const Dict& state) const override;
  void load_state_dict(const Dict& state) override;

 private:
  void write(TrainerBase& trainer);
  std::int64_t period_;
  std::vector<std::pair<std::string, std::unique_ptr<GuardedWriter>>> writers_;
};

}  // namespace treadle::hooks

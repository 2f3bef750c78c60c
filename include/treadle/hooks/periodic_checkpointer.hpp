#pragma once

#include <treadle/engine/hook_base.hpp>

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

namespace treadle {
class Checkpointer;
}

namespace treadle::hooks {

struct PeriodicCheckpointerOptions {
  std::int64_t period = 5000;                 ///< iterations from save to save, at least 1
  std::optional<std::int64_t> max_to_keep{};  ///< periodic checkpoints kept, at least 1, pinned ones apart; without a value all
  /// Periodic saves go on beside training (`Checkpointer::save_async`); an error surfaces at the next step. What is saved at the
  /// end or at a stop is waited for.
  bool async = false;
  std::string file_prefix = "model";
};
/// Throws ConfigError that names the field.
void validate(const PeriodicCheckpointerOptions& options);

/// Saves `model_0000999` after iteration 999 and so on, `model_final` after the last one, and, when the run is stopped early, the
/// iteration it stopped at, also where its periodic save was skipped or has failed. Loop thread only; all ranks. The checkpointer
/// is borrowed.
class PeriodicCheckpointer final : public HookBase {
 public:
  explicit PeriodicCheckpointer(Checkpointer& checkpointer, PeriodicCheckpointerOptions options = {});
  Phase phase() const override { return Phase::checkpoint; }
  void before_train(TrainerBase& trainer) override;
  void after_step(TrainerBase& trainer) override;
  void after_train(TrainerBase& trainer) override;

 private:
  void save(const std::string& name, std::int64_t iteration, bool async);
  void note_saved();
  void forget_oldest();

  Checkpointer& checkpointer_;
  PeriodicCheckpointerOptions options_;
  std::string begun_name_;             // of the newest save; empty when it was skipped
  std::int64_t begun_iteration_ = -1;  // what it is of
  std::int64_t saved_iteration_ = -1;  // the same once it is durable; until then -1
  std::size_t seen_ = 0;               // how many of Checkpointer::saved() were looked at
  std::vector<std::string> recent_;    // names of the periodic checkpoints of this run that are durable, the oldest first
};

}  // namespace treadle::hooks

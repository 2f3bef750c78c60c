#pragma once

#include <treadle/engine/hook_base.hpp>

#include <cstdint>

namespace treadle::hooks {

struct TorchMemoryStatsOptions {
  std::int64_t period = 20;    ///< iterations from line to line, at least 1; the last iteration has one too
  std::int64_t max_runs = 10;  ///< lines in a run, at least 0; with the last of them comes a table
};
/// Throws ConfigError that names the field.
void validate(const TorchMemoryStatsOptions& options);

/// Logs how much memory is in use, in MiB. With an accelerator (and LibTorch 2.10 or newer): what LibTorch's allocator reserved
/// and what tensors take, now and at most since the line before. Without: the resident set of this process, now and at most since
/// its start, and what the C library's allocator holds and has given out (0 where the system does not say). Loop thread only;
/// each rank logs its own.
class TorchMemoryStats final : public HookBase {
 public:
  explicit TorchMemoryStats(TorchMemoryStatsOptions options = {});
  void before_train(TrainerBase& trainer) override;
  void after_step(TrainerBase& trainer) override;

 private:
  TorchMemoryStatsOptions options_;
  std::int64_t runs_ = 0;
};

}  // namespace treadle::hooks

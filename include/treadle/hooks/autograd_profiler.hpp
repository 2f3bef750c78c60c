#pragma once

#include <treadle/hooks/torch_profiler.hpp>

namespace treadle::hooks {

struct AutogradProfilerOptions {
  std::function<bool(const TrainerBase&)> enable{};  ///< asked before every step: whether it is recorded. Empty: every step is
  std::filesystem::path output_dir = ".";
  bool accelerator = true;  ///< record the accelerator's work too, when there is one
};

/// The plain one of the two profilers: times of operations alone, a trace for each step. Otherwise as TorchProfiler.
class AutogradProfiler final : public TorchProfiler {
 public:
  explicit AutogradProfiler(AutogradProfilerOptions options)
      : TorchProfiler({.enable = std::move(options.enable),
                       .output_dir = std::move(options.output_dir),
                       .record_shapes = false,
                       .profile_memory = false,
                       .with_flops = false,
                       .accelerator = options.accelerator}) {}
};

}  // namespace treadle::hooks

#pragma once

#include <treadle/engine/hook_base.hpp>

#include <cstdint>
#include <filesystem>
#include <functional>

namespace treadle::hooks {

struct TorchProfilerOptions {
  /// Asked before every step: whether it counts for the schedule below. Empty: every step does.
  std::function<bool(const TrainerBase&)> enable{};
  std::filesystem::path output_dir = ".";  ///< where traces go; made when the run begins
  /// Of the steps that count, `wait` are passed over, `warmup` run with a profiler whose first slow steps are not kept, and
  /// `active` are recorded into one trace; then again, `repeat` times, or without end when that is 0.
  std::int64_t wait = 0;    ///< at least 0
  std::int64_t warmup = 0;  ///< at least 0
  std::int64_t active = 1;  ///< at least 1
  std::int64_t repeat = 0;  ///< at least 0
  bool record_shapes = true;
  bool profile_memory = true;
  bool with_flops = true;        ///< only with `record_shapes`
  bool accelerator = true;       ///< record the accelerator's work too, when there is one
  bool tensorboard = false;      ///< name the files as TensorBoard's profiler plugin looks for them, under `output_dir`/log
  std::int64_t table_rows = 10;  ///< of the table of the costliest operations in the log; 0: no table
};
/// Throws ConfigError that names the field.
void validate(const TorchProfilerOptions& options);

/// Records what LibTorch does in some steps: a Chrome trace `profiler-trace-iter19.json` (of a recording that ends with iteration
/// 19; other ranks than the main process put `-rank1` before the ending), and a table of the costliest operations in the log. A
/// recording is also ended, and written, by a step that does not count and by the end of the run. Loop thread only. LibTorch has
/// one profiler: two recordings at a time throw Error. What cannot be written is warned about.
class TorchProfiler : public HookBase {
 public:
  explicit TorchProfiler(TorchProfilerOptions options);
  ~TorchProfiler() override;
  /// Throws IoError when `output_dir` cannot be made.
  void before_train(TrainerBase& trainer) override;
  void before_step(TrainerBase& trainer) override;
  void after_step(TrainerBase& trainer) override;
  void after_train(TrainerBase& trainer) override;

 private:
  enum class State { idle, warming_up, recording };
  void prepare();
  void record();
  void finish(const TrainerBase& trainer);
  void discard() noexcept;
  std::filesystem::path trace_file(const TrainerBase& trainer) const;

  TorchProfilerOptions options_;
  State state_ = State::idle;
  std::int64_t place_ = 0;   // of the next step in the cycle
  std::int64_t cycles_ = 0;  // that are complete
  std::int64_t last_ = -1;   // the iteration recorded last
};

}  // namespace treadle::hooks

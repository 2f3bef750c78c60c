#pragma once

#include <treadle/engine/hook_base.hpp>
#include <treadle/hooks/scope.hpp>

#include <functional>

namespace torch::nn {
class Module;
}

namespace treadle::hooks {

struct EvalHookOptions {
  std::int64_t period = 0;       ///< iterations between evaluations; 0: only at the end
  bool eval_after_train = true;  ///< evaluate when the run is complete
  Scope scope{};                 ///< held during an evaluation, such as `EmaHook::scope()`
  /// The model that is evaluated (borrowed): its buffers take the main process's values before each evaluation, inside the scope,
  /// so that all ranks evaluate the same model. Null leaves them.
  torch::nn::Module* model = nullptr;
};
/// Throws ConfigError that names the field.
void validate(const EvalHookOptions& options);

/// Calls a function that evaluates, and records its results (nested Dicts of numbers, names joined by "/") as scalars that are
/// not smoothed. It runs every `period` iterations but the last, and at the end of a run that is complete, never after a failure
/// or a stop. Loop thread only; all ranks call the function, the results of the main process count. Throws FormatError that names
/// a result that is no number, with the iteration.
class EvalHook final : public HookBase {
 public:
  /// Throws Error when `evaluate` is empty.
  explicit EvalHook(std::function<Dict()> evaluate, EvalHookOptions options = {});
  Phase phase() const override { return Phase::evaluation; }
  void after_step(TrainerBase& trainer) override;
  void after_train(TrainerBase& trainer) override;

 private:
  void evaluate(TrainerBase& trainer);
  std::function<Dict()> evaluate_;
  EvalHookOptions options_;
};

}  // namespace treadle::hooks

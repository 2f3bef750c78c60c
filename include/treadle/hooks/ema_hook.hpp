#pragma once

#include <treadle/engine/hook_base.hpp>
#include <treadle/hooks/scope.hpp>
#include <treadle/solver/ema.hpp>

namespace treadle {
class Checkpointer;
}

namespace treadle::hooks {

/// Keeps an exponential moving average of a module's weights, updated after every step. Loop thread only. The module is borrowed;
/// training goes on with its own weights. State: that of the average. With a checkpointer (borrowed) the averages are saved as
/// `model_ema` when a run is complete (before the first update: the weights), the model and "ema" = {"iteration"} alone: what the
/// last evaluation scored, while `model_final` holds the weights that training goes on with.
///
///     auto& ema = trainer.add_hook<hooks::EmaHook>(*model, EmaOptions{.decay = 0.9999});
///     trainer.add_hook<hooks::EvalHook>(evaluate, hooks::EvalHookOptions{.period = 500, .scope = ema.scope()});
class EmaHook final : public HookBase {
 public:
  /// Throws ConfigError that names the field of `options`.
  explicit EmaHook(torch::nn::Module& module, const EmaOptions& options = {}, Checkpointer* checkpointer = nullptr)
      : average_(module, options), checkpointer_(checkpointer) {}
  Phase phase() const override { return Phase::statistics; }
  void after_step(TrainerBase& trainer) override;
  void after_train(TrainerBase& trainer) override;

  ExponentialMovingAverage& average() noexcept { return average_; }
  /// Puts the averages into the module as long as it lasts; nothing before the first update. Uses this hook, which must live.
  Scope scope();

  Dict state_dict() const override { return average_.state_dict(); }
  void check_state_dict(const Dict& state) const override { average_.check_state_dict(state); }
  void load_state_dict(const Dict& state) override { average_.load_state_dict(state); }

 private:
  ExponentialMovingAverage average_;
  Checkpointer* checkpointer_;
};

}  // namespace treadle::hooks

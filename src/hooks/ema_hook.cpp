#include <treadle/engine/trainer_base.hpp>
#include <treadle/hooks/ema_hook.hpp>

namespace treadle::hooks {

void EmaHook::after_step(TrainerBase&) { average_.update(); }

Scope EmaHook::scope() {
  return [this]() -> std::shared_ptr<void> {
    // What the average holds before its first update are the weights of its construction, not those of the run.
    if (average_.num_updates() == 0) return nullptr;
    return std::make_shared<ExponentialMovingAverage::Swap>(average_);
  };
}

}  // namespace treadle::hooks

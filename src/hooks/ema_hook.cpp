#include <treadle/checkpoint/checkpointer.hpp>
#include <treadle/engine/trainer_base.hpp>
#include <treadle/hooks/ema_hook.hpp>

namespace treadle::hooks {

void EmaHook::after_step(TrainerBase&) { average_.update(); }

void EmaHook::after_train(TrainerBase& trainer) {
  if (checkpointer_ == nullptr || trainer.outcome() != Outcome::completed) return;
  const std::shared_ptr<void> averages = scope()();
  // Without "iteration" it is the last to be taken when a run looks for a good checkpoint to resume from.
  checkpointer_->save_aside("model_ema", {{"ema", Dict{{"iteration", trainer.iter() - 1}}}}, Checkpointer::Parts::model);
}

Scope EmaHook::scope() {
  return [this]() -> std::shared_ptr<void> {
    // What the average holds before its first update are the weights of its construction, not those of the run.
    if (average_.num_updates() == 0) return nullptr;
    return std::make_shared<ExponentialMovingAverage::Swap>(average_);
  };
}

}  // namespace treadle::hooks

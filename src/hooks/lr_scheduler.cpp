#include <treadle/engine/trainer_base.hpp>
#include <treadle/hooks/lr_scheduler.hpp>
#include <treadle/solver/lr_scheduler.hpp>
#include <treadle/solver/optimizer_state.hpp>

namespace treadle::hooks {

void LRScheduler::before_train(TrainerBase&) {
  // A loaded optimizer brought rates of its own; the schedule decides.
  scheduler_.apply();
}

void LRScheduler::after_step(TrainerBase& trainer) {
  trainer.storage().put_scalar("lr", summary_lr(optimizer_), /*smoothing_hint=*/false);
  scheduler_.step();
}

Dict LRScheduler::state_dict() const { return scheduler_.state_dict(); }
void LRScheduler::check_state_dict(const Dict& state) const { scheduler_.check_state_dict(state); }
void LRScheduler::load_state_dict(const Dict& state) { scheduler_.load_state_dict(state); }

}  // namespace treadle::hooks

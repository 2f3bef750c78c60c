#include <treadle/engine/trainer_base.hpp>
#include <treadle/events/event_storage.hpp>
#include <treadle/hooks/loader_timer.hpp>

namespace treadle::hooks {

void LoaderTimer::before_step(TrainerBase&) { before_ = source_.waited(); }

void LoaderTimer::after_step(TrainerBase& trainer) {
  const std::optional<BatchWait> now = source_.waited();
  if (!now || !before_) return;
  trainer.storage().put_scalar("data_decode_time", now->decode - before_->decode);
  trainer.storage().put_scalar("data_collate_time", now->collate - before_->collate);
}

}  // namespace treadle::hooks

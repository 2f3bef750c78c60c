#include <treadle/engine/trainer_base.hpp>
#include <treadle/hooks/lr_scheduler.hpp>
#include <treadle/solver/lr_scheduler.hpp>
#include <treadle/solver/optimizer_state.hpp>

#include <torch/optim/optimizer.h>

namespace treadle::hooks {
namespace {

void set_rates(torch::optim::Optimizer& optimizer, const std::vector<double>& rates) {
  for (std::size_t i = 0; i < rates.size(); ++i) optimizer.param_groups()[i].options().set_lr(rates[i]);
}

}  // namespace

std::size_t LRScheduler::get_best_param_group_id(const torch::optim::Optimizer& optimizer) { return summary_group(optimizer); }

void LRScheduler::before_train(TrainerBase&) {
  // By base rates: others depend on where the schedule is, and a resumed run would show another group.
  set_rates(optimizer_, scheduler_.base_lrs());
  group_ = get_best_param_group_id(optimizer_);
  // A loaded optimizer brought rates of its own; the schedule decides.
  scheduler_.apply();
}

void LRScheduler::after_step(TrainerBase& trainer) {
  trainer.storage().put_scalar("lr", optimizer_.param_groups()[group_].options().get_lr(), /*smoothing_hint=*/false);
  scheduler_.step();
}

Dict LRScheduler::state_dict() const { return scheduler_.state_dict(); }
void LRScheduler::check_state_dict(const Dict& state) const { scheduler_.check_state_dict(state); }
void LRScheduler::load_state_dict(const Dict& state) { scheduler_.load_state_dict(state); }

}  // namespace treadle::hooks

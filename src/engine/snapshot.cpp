#include "engine/snapshot.hpp"

#include <treadle/base/module_state.hpp>
#include <treadle/base/rng.hpp>
#include <treadle/events/event_storage.hpp>

namespace treadle {

void SimpleTrainer::Snapshot::take(const TrainerBase& loop, const torch::nn::Module& model) {
  next_iteration_ = -1;  // half a state is none
  model_ = deep_clone(module_state_dict(model));
  trainer_ = deep_clone(loop.state_dict());
  events_ = deep_clone(loop.storage().state_dict());
  rng_ = deep_clone(default_generator_state());
  next_iteration_ = loop.iter();
}

void SimpleTrainer::Snapshot::restore(TrainerBase& loop, torch::nn::Module& model) const {
  load_module_state_dict(model, model_);
  loop.return_to(trainer_);
  loop.storage().load_state_dict(events_);
  set_default_generator_state(rng_);
}

}  // namespace treadle

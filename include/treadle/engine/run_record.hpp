#pragma once

#include <treadle/engine/trainer_base.hpp>

#include <string>
#include <vector>

namespace torch::nn {
class Module;
}

namespace treadle {

/// What a checkpoint needs beyond Detectron2's layout so that a resumed run goes on in the same bits; saved under the key
/// "treadle":
///
///     {"version": 1, "begun": when the run began anew, in nanoseconds since 1970, however often it was resumed since,
///      "events": the storage, "position": {"iteration", "after_step_index", "hooks_behind"}, "max_iter",
///      "ranks": [one per rank: {"rng": ATen's default generators, "loader": the source's state, "buffers": the model's,
///                               "trainer": its rank_state_dict, where that is not empty}]}
///
/// Loop thread only. `state_dict` gathers from all ranks and is a collective. Trainer, source and model are borrowed. Loading
/// comes behind that of the trainer and gives every rank its own entry; in a group of another size, ranks without one take the
/// loader state of rank 0, keep trainer and buffers as they were loaded, and warn that random numbers start anew.
class RunRecord final : public Stateful {
 public:
  /// `source` may be null when the batches have no state; `skip` names buffers that stay out of checkpoints.
  RunRecord(TrainerBase& trainer, Stateful* source, torch::nn::Module& model, std::vector<std::string> skip = {});

  Dict state_dict() const override;
  void check_state_dict(const Dict& state) const override;
  void load_state_dict(const Dict& state) override;
  /// True when a state has been loaded.
  bool loaded() const noexcept { return loaded_; }
  /// How long the run that saved the loaded state was to be; 0 when none was loaded or it does not say.
  std::int64_t saved_max_iter() const noexcept { return saved_max_iter_; }

 private:
  Dict own_entry() const;
  const Dict& entry_of_this_rank(const Dict& state, bool& own) const;

  TrainerBase& trainer_;
  Stateful* source_;
  torch::nn::Module& model_;
  std::vector<std::string> skip_;
  std::int64_t begun_;
  bool loaded_ = false;
  std::int64_t saved_max_iter_ = 0;
};

}  // namespace treadle

#pragma once

#include <treadle/base/stateful.hpp>
#include <treadle/engine/phase.hpp>

#include <string>

namespace treadle {

class TrainerBase;

/// Something that happens around the steps of a training loop. Loop thread only. All six calls do nothing unless overridden:
///
///     hook.before_train(trainer)
///     for each iteration:
///       hook.before_step(trainer)
///       the step; between the backward pass and the optimizer: hook.after_backward(trainer)
///       hook.after_step(trainer)
///     hook.after_train(trainer)        // always, after an exception too: see trainer.outcome()
///
/// A step that is taken back (NonFiniteAction::roll_back) has no after_step; the hook's state is then that of an earlier step.
/// What a hook needs besides the facts of the loop (model, optimizer, checkpointer) it gets in its constructor, by reference.
/// All ranks register the same hooks in the same order, so collectives are legal inside; whether this is the main process is
/// asked where something is written. After a failure the group is broken and collectives throw.
/// Hooks are destroyed with the trainer's base class: what they borrow must outlive it, or the trainer calls `clear_hooks`.
class HookBase : public Stateful {
 public:
  HookBase() = default;
  HookBase(const HookBase&) = delete;
  HookBase& operator=(const HookBase&) = delete;

  virtual void before_train(TrainerBase&) {}
  virtual void after_train(TrainerBase&) {}
  virtual void before_step(TrainerBase&) {}
  virtual void after_backward(TrainerBase&) {}
  virtual void after_step(TrainerBase&) {}

  /// Once, when the hook has been registered and before any other call.
  virtual void registered(TrainerBase&) {}

  /// The name of this hook's state in a checkpoint, by default the name of its class. A second hook of the same key gets `key#2`.
  virtual std::string key() const;
  /// Its place among the others.
  virtual Phase phase() const { return Phase::any; }

  /// No state by default: an empty Dict is not saved. A step that is taken back to where the state was empty hands the hook an
  /// empty Dict; one that refuses it keeps its state, with a warning.
  Dict state_dict() const override { return {}; }
  void check_state_dict(const Dict&) const override {}
  void load_state_dict(const Dict&) override {}
};

}  // namespace treadle

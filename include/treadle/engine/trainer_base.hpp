#pragma once

#include <treadle/comm/group.hpp>
#include <treadle/engine/hook_base.hpp>
#include <treadle/engine/step_exchange.hpp>
#include <treadle/events/event_storage.hpp>

#include <atomic>
#include <exception>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

namespace treadle {

/// How a run stands. `completed`: max_iter was reached. `stopped`: it ended earlier because somebody asked. `failed`: an
/// exception.
enum class Outcome { not_started, running, completed, stopped, failed };

std::string_view to_string(Outcome outcome) noexcept;

/// The point of a run that a state belongs to: the last iteration whose step is complete, and how far its `after_step` calls had
/// come.
struct Position {
  std::int64_t iteration = -1;
  /// The index of the last hook whose `after_step` belongs to the state: the hook that saved, or the last of all.
  std::int64_t after_step_index = -1;
  /// The keys of the hooks behind it; their `after_step` for `iteration` is still to run when the state is resumed.
  std::vector<std::string> hooks_behind;
};

struct TrainerOptions {
  std::shared_ptr<Group> group{};  ///< the processes that train together; null for this one alone
  EventStorageOptions events{};
};

/// A training loop with hooks; it assumes nothing but a loop. Derived classes write `run_step`. Loop thread only, but for
/// `request_stop`.
///
/// State: {"iteration", "hooks": {key: state}, "treadle_hooks": {key: state}}. "iteration" is the last complete one; a resumed
/// run starts behind it. "hooks" is as Detectron2 writes it; what it would hand to a hook of its own that takes no state, and
/// fail (PeriodicWriter, BestCheckpointer, PreciseBN, …), is in "treadle_hooks", which it passes over. When loaded, either place
/// will do for any hook. State of a hook that is not registered is warned about, kept, and given to a hook registered later under
/// that key.
class TrainerBase : public Stateful {
 public:
  explicit TrainerBase(TrainerOptions options = {});
  ~TrainerBase() override;
  TrainerBase(const TrainerBase&) = delete;
  TrainerBase& operator=(const TrainerBase&) = delete;

  /// The iteration under way; in `after_train` the one after the last complete one, so equal to `max_iter` when the run is
  /// complete, or the one in which an exception ended the run.
  std::int64_t iter() const noexcept { return iter_; }
  /// The first iteration of this run; after a state was loaded, the one to go on with.
  std::int64_t start_iter() const noexcept { return start_iter_; }
  std::int64_t max_iter() const noexcept { return max_iter_; }
  /// Any thread.
  Outcome outcome() const noexcept { return outcome_; }
  EventStorage& storage() noexcept { return storage_; }
  const EventStorage& storage() const noexcept { return storage_; }
  Group& group() const noexcept { return *group_; }
  /// The same, for what must keep it alive.
  const std::shared_ptr<Group>& shared_group() const noexcept { return group_; }

  /// Appends a hook, which may be another one of the same class (see `HookBase::key`), but never the same object again, since the
  /// trainer owns it; a null one is passed over. Throws Error that tells the order when its phase must stand before a hook that
  /// is already there, and FormatError when state that waits for it does not fit. Not from inside a hook.
  void register_hook(std::unique_ptr<HookBase> hook);
  void register_hooks(std::vector<std::unique_ptr<HookBase>> hooks);
  /// Makes a hook of class H, registers it and returns it; the trainer owns it.
  template <class H, class... Args>
  H& add_hook(Args&&... args) {
    auto hook = std::make_unique<H>(std::forward<Args>(args)...);
    H& reference = *hook;
    register_hook(std::move(hook));
    return reference;
  }
  /// The keys of the hooks in their order.
  std::vector<std::string> hook_keys() const;

  /// Runs the iterations [start_iter, max_iter). An exception is logged with its iteration and thrown on after every hook's
  /// `after_train` has run; a further one thrown there is logged. Throws Error when it is already running or max_iter <
  /// start_iter.
  void train(std::int64_t start_iter, std::int64_t max_iter);

  /// The same run, iteration by iteration, for a loop of one's own:
  ///
  ///     trainer.start_training(start_iter, max_iter);
  ///     while (trainer.run_iteration()) { … }
  ///
  /// `run_iteration` returns true when it has run an iteration with all calls to hooks; `iter` is then the next one, and a state
  /// may be taken. Behind the last one, or once a stop was asked for, it ends the run as `train` does and returns false; to leave
  /// early, ask for a stop and go on. Both throw what `train` throws, and the run is then over. Without a run it throws Error.
  void start_training(std::int64_t start_iter, std::int64_t max_iter);
  bool run_iteration();

  /// One step: everything between `before_step` and `after_step`. Called alone it moves no iteration on and calls no such hook.
  virtual void run_step() = 0;

  /// The calls to all hooks, in their order. A derived class that overrides one calls it.
  virtual void before_train();
  virtual void after_train();
  virtual void before_step();
  virtual void after_backward();
  virtual void after_step();
  /// Behind the last step, in front of `after_train`, while the outcome is open: what the steps left to do. An exception is a
  /// failure of the run.
  virtual void finish_steps() {}

  /// Ends the run after this step and all its `after_step` calls, on all ranks in the same iteration. Any thread.
  /// The first reason stays. In a group the request travels with the next exchange.
  void request_stop(std::string reason);
  /// Why the run is stopping or was stopped, on the rank that asked; empty otherwise. The next run begins without.
  std::string stop_reason() const;

  /// For `run_step`: sends this rank's facts after the forward pass, and waits for the verdict of all before the optimizer. A
  /// step that does not call them has its stop request exchanged behind it.
  void start_exchange(const StepFacts& facts);
  const StepVerdict& finish_exchange();
  /// For a `run_step` that throws, in its handler: forgets an exchange that it began, so that it can be called again. Outside of
  /// a run it marks a group of several ranks broken, since the others wait for that step; within one, the end of the run does.
  void abandon_step();

  /// What a state taken now belongs to. Throws Error inside `run_step`, and after one that failed: loader, random numbers and
  /// buffers are then in the middle of an iteration, and no run could go on from them.
  Position position() const;
  /// Makes `train(position.iteration + 1, …)` go on from `position`: when `before_train` is done, `restore` is called (it puts
  /// back random numbers), then `after_step` of the hooks behind.
  void resume_at(Position position, std::function<void()> restore);

  /// For `run_step`, which takes back what happened since `state` was taken from `state_dict` in this run: loads it and makes
  /// the loop go on behind its iteration. Hooks see no `after_step` of the step under way.
  void return_to(const Dict& state);

  Dict state_dict() const override;
  void check_state_dict(const Dict& state) const override;
  void load_state_dict(const Dict& state) override;
  /// What differs from rank to rank, though `state_dict` of the main process is saved for all: RunRecord keeps it for every rank
  /// and loads it behind `load_state_dict`. Empty by default.
  virtual Dict rank_state_dict() const { return {}; }
  virtual void check_rank_state_dict(const Dict&) const {}
  virtual void load_rank_state_dict(const Dict&) {}

 protected:
  /// Destroys the hooks. For the destructor of a derived class that owns what its hooks borrow.
  void clear_hooks() noexcept { hooks_.clear(); }

 private:
  struct Registered {
    std::unique_ptr<HookBase> hook;
    std::string key;
  };
  struct Resume {
    Position position;
    std::function<void()> restore;
  };

  std::string unique_key(const HookBase& hook) const;
  void check_order(const HookBase& hook) const;
  void load_hooks(const Dict& states);
  void begin(std::int64_t start_iter, std::int64_t max_iter);
  bool advance();
  void iterate();
  void finish_resumed_iteration();
  bool stop_decided();
  void finish(std::exception_ptr failure);
  template <class Call>
  void call_hooks(const Call& call);

  std::shared_ptr<Group> group_;
  EventStorage storage_;
  std::vector<Registered> hooks_;
  Dict waiting_state_;  // hook states for which no hook is registered
  StepExchange exchange_;
  bool exchanged_this_step_ = false;
  bool in_step_ = false;   // inside run_step, or behind one that failed
  bool returned_ = false;  // by return_to, in the step under way
  bool calling_hooks_ = false;
  std::int64_t iter_ = 0;
  std::int64_t start_iter_ = 0;
  std::int64_t max_iter_ = 0;
  std::int64_t completed_ = -1;               // the last iteration whose run_step is complete
  std::optional<std::size_t> in_after_step_;  // the hook whose after_step is running
  std::atomic<Outcome> outcome_ = Outcome::not_started;
  std::optional<Resume> resume_;
  std::exception_ptr after_train_failure_;
  bool stop_verdict_ = false;
  std::atomic<bool> stop_requested_ = false;
  mutable std::mutex stop_mutex_;
  std::string stop_reason_;
};

}  // namespace treadle

#pragma once

#include <treadle/base/registry.hpp>
#include <treadle/base/stateful.hpp>
#include <treadle/solver/param_scheduler.hpp>

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

namespace torch::optim {
class Optimizer;
}

namespace treadle {

/// Whose settings count when a state is loaded that was saved under others.
enum class ResumeSettings {
  current,  ///< those this run was started with; each difference is warned about once
  saved     ///< those in the state
};

/// Sets the learning rate of every group of an optimizer once per iteration. Loop thread only.
///
/// A new scheduler has made its first step: the rates of iteration 0 are set. `step()` after iteration k sets those of k + 1.
/// The optimizer is borrowed. A group that is added to it later joins at the next step, with the rate that it has then as its
/// base rate. A schedule that gives a rate that is negative or not finite is an Error that names the iteration and the group; no
/// rate is set then, and the iteration stays. State: `base_lrs` (one float per group) and `last_epoch` (an iteration, whatever
/// the name says), the keys of Detectron2. Loading takes the counter from the state, base rates by `ResumeSettings`, and sets the
/// rates in the optimizer.
class LRScheduler : public Stateful {
 public:
  /// Goes on to the next iteration and sets its rates.
  void step();
  /// Sets the current rates (again): to be called when the optimizer's own state was loaded after this one's.
  void apply();

  /// The rates now set, one per group that was there at the last step.
  const std::vector<double>& get_last_lr() const noexcept { return last_lrs_; }
  const std::vector<double>& base_lrs() const noexcept { return base_lrs_; }
  /// The iteration whose rates are set.
  std::int64_t last_iter() const noexcept { return last_iter_; }
  /// The rates of iteration `last_iter()`, computed and not set.
  std::vector<double> get_lr() const;

  Dict state_dict() const override;
  /// Throws FormatError for a missing key, another number of groups, a base rate that is negative or not finite, and an iteration
  /// that the schedule has no rates for, as behind the end of a shorter run.
  void check_state_dict(const Dict& state) const override;
  void load_state_dict(const Dict& state) override;

 protected:
  /// Writes the rates of iteration `iter` into `lrs`; both vectors hold one number per group. It is also asked for iterations
  /// that are not this scheduler's, before a state is loaded.
  virtual void compute_lrs(std::int64_t iter, const std::vector<double>& base_lrs, std::vector<double>& lrs) const = 0;

  struct Start {
    std::int64_t last_iter = -1;   ///< the iteration that was completed last; -1 for none
    std::vector<double> base_lrs;  ///< one per group; needed with `last_iter` >= 0, otherwise the groups' own rates are taken
    ResumeSettings resume = ResumeSettings::current;
  };
  /// Derived constructors end with `step()`. Throws ConfigError when `start` is not as described.
  LRScheduler(torch::optim::Optimizer& optimizer, Start start);

 private:
  /// The base rates, and for groups added since the last step the rates they came with.
  std::vector<double> all_base_lrs() const;
  /// Tells Treadle's optimizers, which save them.
  void tell_base_lrs();
  /// The base rates that count once a state with the `saved` ones is loaded.
  std::vector<double> base_lrs_to_load(const List& saved) const;
  /// `compute_lrs`; throws Error when a rate is none that an optimizer can take.
  void compute_legal_lrs(std::int64_t iter, const std::vector<double>& base_lrs, std::vector<double>& lrs) const;
  void go_to(std::int64_t iter);

  torch::optim::Optimizer& optimizer_;
  ResumeSettings resume_;
  std::int64_t last_iter_;
  std::vector<double> base_lrs_;
  std::vector<double> last_lrs_, next_lrs_;
};

struct LRMultiplierOptions {
  std::int64_t max_iter = 0;       ///< iterations of the run, > 0
  std::int64_t last_iter = -1;     ///< as in torch: the iteration that was completed last
  std::vector<double> base_lrs{};  ///< one per group; needed with `last_iter` >= 0
  ResumeSettings resume = ResumeSettings::current;
};

/// Every rate is its base rate times one schedule of progress = iteration / max_iter (`detectron2.solver.LRMultiplier`).
/// Where a schedule is not defined up to progress 1, as steps are not in the last millionth, the last value it has counts on: at
/// iteration `max_iter`, which only the step after the last iteration sees, and at the end of a run of millions.
class LRMultiplier final : public LRScheduler {
 public:
  /// Throws ConfigError for an empty `multiplier` or options out of range.
  LRMultiplier(torch::optim::Optimizer& optimizer, ParamScheduler multiplier, const LRMultiplierOptions& options);
  std::int64_t max_iter() const noexcept { return max_iter_; }

 private:
  void compute_lrs(std::int64_t iter, const std::vector<double>& base_lrs, std::vector<double>& lrs) const override;

  ParamScheduler multiplier_;
  std::int64_t max_iter_;
};

/// What `build_lr_scheduler` reads; the names and defaults are Detectron2's.
struct LRSchedulerOptions {
  std::string name =
      "WarmupMultiStepLR";        ///< also WarmupCosineLR, WarmupStepWithFixedGammaLR, WarmupStableDecayLR, or a registered one
  std::int64_t max_iter = 40000;  ///< > 0
  double base_lr = 0.001;         ///< only as the unit of `base_lr_end`
  double base_lr_end = 0.0;       ///< in [0, base_lr]: where WarmupCosineLR and WarmupStableDecayLR end
  double gamma = 0.1;             ///< factor of one decay, > 0
  std::vector<double> steps = {30000};  ///< ascending, > 0: iterations of WarmupMultiStepLR's decays
  std::int64_t num_decays = 3;          ///< of WarmupStepWithFixedGammaLR, > 0
  std::int64_t warmup_iters = 1000;     ///< in [0, max_iter]; below max_iter with `rescale_interval`
  double warmup_factor = 0.001;         ///< >= 0
  WarmupMethod warmup_method = WarmupMethod::linear;
  bool rescale_interval = false;
  std::int64_t decay_iters = 0;  ///< length of WarmupStableDecayLR's decay, in (0, max_iter]
  DecayShape decay_shape = DecayShape::linear;
  ResumeSettings resume = ResumeSettings::current;
};
/// Throws ConfigError that names the field ("LRSchedulerOptions.max_iter") and its legal range.
void validate(const LRSchedulerOptions& options);

/// The schedule with its warm-up, as a factor of progress. Steps at or beyond max_iter are dropped with a warning.
/// Throws ConfigError for an unknown name (with the nearest known) and what `validate` finds.
ParamScheduler build_param_scheduler(const LRSchedulerOptions& options);

/// That schedule on the groups of `optimizer`, which is borrowed.
std::unique_ptr<LRScheduler> build_lr_scheduler(const LRSchedulerOptions& options, torch::optim::Optimizer& optimizer);

/// Name → the schedule before its warm-up. Programs add their own.
using ParamSchedulerFactory = std::function<ParamScheduler(const LRSchedulerOptions&)>;
Registry<ParamSchedulerFactory>& param_schedulers();

}  // namespace treadle

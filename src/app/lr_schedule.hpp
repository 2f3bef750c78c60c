#pragma once

#include <treadle/solver/lr_scheduler.hpp>

#include <cstdint>
#include <map>
#include <string>
#include <vector>

namespace treadle {

/// The learning rate of every iteration of a run, computed as LRMultiplier does and without an optimizer. Immutable; any thread.
class LRSchedule {
 public:
  /// Throws and warns as `build_param_scheduler`.
  explicit LRSchedule(const LRSchedulerOptions& options);

  std::int64_t max_iter() const noexcept { return options_.max_iter; }

  /// Of an iteration in [0, max_iter): its share of the run in [0, 1), the factor on the base rate, and the rate. Throw Error
  /// where the schedule has no value, as LRMultiplier would.
  double progress(std::int64_t iteration) const;
  double factor(std::int64_t iteration) const;
  double lr(std::int64_t iteration) const;

  /// `count` iterations, evenly spaced from the first to the last; all of them when there are fewer. `count` is at least 1.
  std::vector<std::int64_t> evenly_spaced(std::int64_t count) const;

  /// What a table should show, by iteration: those of `evenly_spaced(count)`, the first and the last one, the end of the warm-up,
  /// and each decay with the iteration before it. The text says why an iteration is there, where there is something to say.
  std::map<std::int64_t, std::string> rows(std::int64_t count) const;

 private:
  std::int64_t change_after(std::int64_t iteration, std::int64_t end) const;
  std::int64_t warmup_end() const;
  std::vector<std::int64_t> decays() const;

  LRSchedulerOptions options_;
  ParamScheduler multiplier_;
};

}  // namespace treadle

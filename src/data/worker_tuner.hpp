#pragma once

#include <cstdint>

namespace treadle {

/// Decides how many workers an `auto` loader has, from how long its caller waited: one more while waiting takes more than a
/// twentieth of the time, one fewer when it has taken less than a hundredth for some while. A loss of workers that turns out
/// wrong makes the next one wait twice as long.
class WorkerTuner {
 public:
  /// Starts with one worker and stays within [1, most].
  explicit WorkerTuner(int most) : most_(most) {}

  /// After each batch: how long the caller waited for it, and how long ago it got the one before, in seconds. How many workers
  /// there shall be from now on.
  int observe(double waited, double elapsed);
  int workers() const noexcept { return workers_; }

 private:
  static constexpr int kWindow = 16;  // batches
  int most_;
  int workers_ = 1;
  int batches_ = 0;
  double waited_ = 0, elapsed_ = 0;
  std::int64_t calm_windows_ = 0;
  std::int64_t patience_ = 4;  // calm windows before a worker goes
  bool lost_one_ = false;
};

}  // namespace treadle

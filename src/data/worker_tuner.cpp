#include "data/worker_tuner.hpp"

#include <algorithm>

namespace treadle {

int WorkerTuner::observe(double waited, double elapsed) {
  constexpr double too_much = 0.05, little = 0.01;
  constexpr std::int64_t most_patience = 1024;
  waited_ += waited;
  elapsed_ += elapsed;
  if (++batches_ < kWindow) return workers_;
  const double share = elapsed_ > 0 ? waited_ / elapsed_ : 0;
  batches_ = 0;
  waited_ = elapsed_ = 0;
  calm_windows_ = share < little ? calm_windows_ + 1 : 0;
  if (share > too_much && workers_ < most_) {
    ++workers_;
    if (lost_one_) patience_ = std::min(2 * patience_, most_patience);
    lost_one_ = false;
  } else if (calm_windows_ >= patience_ && workers_ > 1) {
    --workers_;
    calm_windows_ = 0;
    lost_one_ = true;
  }
  return workers_;
}

}  // namespace treadle

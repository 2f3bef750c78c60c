#pragma once

#include <treadle/solver/lr_scheduler.hpp>

#include <cstdint>
#include <vector>

namespace treadle {

/// The warm-up factor of iteration `iteration`: 1 from `warmup_iters` on, before it `warmup_factor` or the straight line from it
/// to 1.
double legacy_warmup_factor(WarmupMethod method, std::int64_t iteration, std::int64_t warmup_iters, double warmup_factor);

struct LegacyWarmupOptions {
  double warmup_factor = 0.001;      ///< finite
  std::int64_t warmup_iters = 1000;  ///< >= 0; may exceed the run
  WarmupMethod warmup_method = WarmupMethod::linear;
  std::int64_t last_epoch = -1;    ///< the iteration that was completed last
  std::vector<double> base_lrs{};  ///< needed with `last_epoch` >= 0
};

/// Detectron2's schedulers from before LRMultiplier, for runs that were started with them: the warm-up multiplies the schedule
/// instead of replacing its beginning. New programs take LRMultiplier; constructing one of these logs a warning that says so.
class WarmupMultiStepLR final : public LRScheduler {
 public:
  /// Throws ConfigError when `milestones` do not ascend, or a number is not finite.
  WarmupMultiStepLR(torch::optim::Optimizer& optimizer, std::vector<std::int64_t> milestones, double gamma = 0.1,
                    const LegacyWarmupOptions& warmup = {});
  /// `get_lr()` by the name of torch's later interface.
  std::vector<double> compute_values() const { return get_lr(); }

 private:
  void compute_lrs(std::int64_t iter, const std::vector<double>& base_lrs, std::vector<double>& lrs) const override;

  std::vector<std::int64_t> milestones_;
  double gamma_;
  LegacyWarmupOptions warmup_;
};

/// base rate x warm-up x (1 + cos(pi iteration / max_iters)) / 2.
class WarmupCosineLR final : public LRScheduler {
 public:
  /// Throws ConfigError when `max_iters` is not above 0, or a number is not finite.
  WarmupCosineLR(torch::optim::Optimizer& optimizer, std::int64_t max_iters, const LegacyWarmupOptions& warmup = {});
  /// As above.
  std::vector<double> compute_values() const { return get_lr(); }

 private:
  void compute_lrs(std::int64_t iter, const std::vector<double>& base_lrs, std::vector<double>& lrs) const override;

  std::int64_t max_iters_;
  LegacyWarmupOptions warmup_;
};

}  // namespace treadle

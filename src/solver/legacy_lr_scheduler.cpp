#include <treadle/base/errors.hpp>
#include <treadle/base/log.hpp>
#include <treadle/solver/legacy_lr_scheduler.hpp>

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <numbers>
#include <utility>

namespace treadle {
namespace {

void require(bool legal, const char* field, const char* range, double found) {
  if (!legal) throw ConfigError(fmt::format("{} must be {}; it is {}", field, range, found), field);
}

void check(const LegacyWarmupOptions& warmup) {
  require(std::isfinite(warmup.warmup_factor), "LegacyWarmupOptions.warmup_factor", "finite", warmup.warmup_factor);
}

}  // namespace

double legacy_warmup_factor(WarmupMethod method, std::int64_t iteration, std::int64_t warmup_iters, double warmup_factor) {
  if (iteration >= warmup_iters) return 1.0;
  if (method == WarmupMethod::constant) return warmup_factor;
  double alpha = static_cast<double>(iteration) / static_cast<double>(warmup_iters);
  return warmup_factor * (1 - alpha) + alpha;
}

WarmupMultiStepLR::WarmupMultiStepLR(torch::optim::Optimizer& optimizer, std::vector<std::int64_t> milestones, double gamma,
                                     const LegacyWarmupOptions& warmup)
    : LRScheduler(optimizer, {.last_iter = warmup.last_epoch, .base_lrs = warmup.base_lrs}),
      milestones_(std::move(milestones)),
      gamma_(gamma),
      warmup_(warmup) {
  log_warning("WarmupMultiStepLR is deprecated: use LRMultiplier");
  if (!std::is_sorted(milestones_.begin(), milestones_.end())) throw ConfigError("milestones must ascend", "milestones");
  require(std::isfinite(gamma_), "gamma", "finite", gamma_);
  check(warmup_);
  step();
}

void WarmupMultiStepLR::compute_lrs(std::int64_t iter, const std::vector<double>& base_lrs, std::vector<double>& lrs) const {
  double factor = legacy_warmup_factor(warmup_.warmup_method, iter, warmup_.warmup_iters, warmup_.warmup_factor);
  auto passed = std::upper_bound(milestones_.begin(), milestones_.end(), iter) - milestones_.begin();
  double decay = std::pow(gamma_, static_cast<double>(passed));
  for (std::size_t i = 0; i < lrs.size(); ++i) lrs[i] = base_lrs[i] * factor * decay;
}

WarmupCosineLR::WarmupCosineLR(torch::optim::Optimizer& optimizer, std::int64_t max_iters, const LegacyWarmupOptions& warmup)
    : LRScheduler(optimizer, {.last_iter = warmup.last_epoch, .base_lrs = warmup.base_lrs}),
      max_iters_(max_iters),
      warmup_(warmup) {
  log_warning("WarmupCosineLR is deprecated: use LRMultiplier");
  if (max_iters_ <= 0) throw ConfigError(fmt::format("max_iters must be above 0; it is {}", max_iters_), "max_iters");
  check(warmup_);
  step();
}

void WarmupCosineLR::compute_lrs(std::int64_t iter, const std::vector<double>& base_lrs, std::vector<double>& lrs) const {
  double factor = legacy_warmup_factor(warmup_.warmup_method, iter, warmup_.warmup_iters, warmup_.warmup_factor);
  double wave = 1.0 + std::cos(std::numbers::pi * static_cast<double>(iter) / static_cast<double>(max_iters_));
  for (std::size_t i = 0; i < lrs.size(); ++i) lrs[i] = base_lrs[i] * factor * 0.5 * wave;
}

}  // namespace treadle

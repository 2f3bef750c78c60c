#include <treadle/base/errors.hpp>
#include <treadle/base/log.hpp>
#include <treadle/solver/lr_scheduler.hpp>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <cmath>
#include <utility>

namespace treadle {
namespace {

template <class T>
void require(bool legal, const char* field, const std::string& range, const T& found) {
  if (!legal) {
    const std::string key = fmt::format("LRSchedulerOptions.{}", field);
    throw ConfigError(fmt::format("{} must be {}; it is {}", key, range, found), key);
  }
}

ParamScheduler multi_step(const LRSchedulerOptions& options) {
  std::vector<double> steps;
  for (double step : options.steps) {
    if (step < static_cast<double>(options.max_iter)) steps.push_back(step);
  }
  if (steps.size() != options.steps.size()) {
    log_warning(fmt::format("steps at or beyond max_iter = {} are dropped: of {} remain {}", options.max_iter,
                            fmt::join(options.steps, ", "), steps.empty() ? "none" : fmt::format("{}", fmt::join(steps, ", "))));
  }
  std::vector<double> values;
  for (std::size_t k = 0; k <= steps.size(); ++k) values.push_back(std::pow(options.gamma, static_cast<double>(k)));
  return MultiStepParamScheduler(std::move(values), options.max_iter, std::move(steps));
}

ParamScheduler cosine(const LRSchedulerOptions& options) {
  return CosineParamScheduler(1, options.base_lr_end / options.base_lr);
}

ParamScheduler step_with_fixed_gamma(const LRSchedulerOptions& options) {
  return StepWithFixedGammaParamScheduler(1.0, options.num_decays, options.gamma, options.max_iter);
}

ParamScheduler stable_decay(const LRSchedulerOptions& options) {
  double length = static_cast<double>(options.decay_iters) / static_cast<double>(options.max_iter);
  return StableDecayParamScheduler(length, options.base_lr_end / options.base_lr, options.decay_shape);
}

}  // namespace

void validate(const LRSchedulerOptions& options) {
  require(options.max_iter > 0, "max_iter", "above 0", options.max_iter);
  require(options.base_lr >= 0 && std::isfinite(options.base_lr), "base_lr", "finite and at least 0", options.base_lr);
  require(options.gamma > 0 && std::isfinite(options.gamma), "gamma", "finite and above 0", options.gamma);
  require(options.num_decays > 0, "num_decays", "above 0", options.num_decays);
  require(options.warmup_iters >= 0 && options.warmup_iters <= options.max_iter, "warmup_iters",
          fmt::format("in [0, {}], the length of the run", options.max_iter), options.warmup_iters);
  require(!options.rescale_interval || options.warmup_iters < options.max_iter, "warmup_iters",
          "below max_iter with rescale_interval", options.warmup_iters);
  require(options.warmup_factor >= 0 && std::isfinite(options.warmup_factor), "warmup_factor", "finite and at least 0",
          options.warmup_factor);
  double previous = 0;
  for (double step : options.steps) {
    require(step > previous && std::isfinite(step), "steps", "finite, above 0 and ascending",
            fmt::format("{}", fmt::join(options.steps, ", ")));
    previous = step;
  }
  bool ends = options.name == "WarmupCosineLR" || options.name == "WarmupStableDecayLR";
  require(!ends || options.base_lr > 0, "base_lr", "above 0 for a schedule that ends at base_lr_end", options.base_lr);
  require(!ends || (options.base_lr_end >= 0 && options.base_lr_end <= options.base_lr), "base_lr_end", "in [0, base_lr]",
          options.base_lr_end);
  require(options.name != "WarmupStableDecayLR" || (options.decay_iters > 0 && options.decay_iters <= options.max_iter),
          "decay_iters", "in (0, max_iter]", options.decay_iters);
}

Registry<ParamSchedulerFactory>& param_schedulers() {
  static const auto registry = [] {
    auto made = std::make_unique<Registry<ParamSchedulerFactory>>("learning rate schedule");
    made->add("WarmupMultiStepLR", multi_step);
    made->add("WarmupCosineLR", cosine);
    made->add("WarmupStepWithFixedGammaLR", step_with_fixed_gamma);
    made->add("WarmupStableDecayLR", stable_decay);
    return made;
  }();
  return *registry;
}

ParamScheduler build_param_scheduler(const LRSchedulerOptions& options) {
  const ParamSchedulerFactory& factory = param_schedulers().get(options.name);
  validate(options);
  ParamScheduler scheduler = factory(options);
  WarmupOptions warmup{.factor = options.warmup_factor,
                       .length = static_cast<double>(options.warmup_iters) / static_cast<double>(options.max_iter),
                       .method = options.warmup_method,
                       .rescale_interval = options.rescale_interval};
  try {
    return WarmupParamScheduler(scheduler, warmup);
  } catch (const Error& error) {
    throw ConfigError(fmt::format("the schedule {} cannot follow a warm-up of {} of {} iterations: {}", options.name,
                                  options.warmup_iters, options.max_iter, error.what()),
                      "LRSchedulerOptions.warmup_iters");
  }
}

}  // namespace treadle

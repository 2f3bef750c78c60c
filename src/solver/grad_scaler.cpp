#include <treadle/base/errors.hpp>
#include <treadle/base/value_view.hpp>
#include <treadle/solver/grad_scaler.hpp>

#include <ATen/core/grad_mode.h>
#include <ATen/ops/_amp_foreach_non_finite_check_and_unscale.h>
#include <ATen/ops/full.h>
#include <ATen/ops/mul.h>
#include <ATen/ops/zeros.h>
#include <fmt/format.h>
#include <torch/optim/optimizer.h>

#include <cmath>
#include <limits>
#include <string>
#include <utility>
#include <vector>

namespace treadle {
namespace {

void require(bool legal, const char* field, const char* range, double found) {
  if (!legal) {
    throw ConfigError(fmt::format("GradScalerOptions.{} must be {}; it is {}", field, range, found),
                      std::string("GradScalerOptions.") + field);
  }
}

constexpr const char* kScaleRange = "above 0 and within the range of float32";

/// A scale that becomes 0 or infinite as a float would stay so.
bool is_scale(double scale) {
  return scale >= static_cast<double>(std::numeric_limits<float>::denorm_min()) &&
         scale <= static_cast<double>(std::numeric_limits<float>::max());
}

/// Unscales in place; true when a gradient was infinite or NaN.
bool unscale_gradients(torch::optim::Optimizer& optimizer, float scale) {
  at::NoGradGuard no_grad;
  // ATen's kernel takes tensors of one device and dtype.
  std::map<std::pair<std::string, at::ScalarType>, std::vector<at::Tensor>> batches;
  for (auto& group : optimizer.param_groups()) {
    for (const at::Tensor& param : group.params()) {
      const at::Tensor& grad = param.grad();
      if (!grad.defined()) continue;
      if (grad.scalar_type() == at::kHalf) throw Error("float16 gradients cannot be unscaled: keep the parameters in float32");
      batches[{grad.device().str(), grad.scalar_type()}].push_back(grad.is_sparse() ? grad._values() : grad);
    }
  }
  auto inverse = static_cast<float>(1.0 / static_cast<double>(scale));
  bool found = false;
  for (auto& [key, grads] : batches) {
    auto options = grads[0].options().dtype(at::kFloat);
    at::Tensor found_here = at::zeros({1}, options);
    at::_amp_foreach_non_finite_check_and_unscale_(grads, found_here, at::full({}, inverse, options));
    found |= found_here.item<float>() != 0;
  }
  return found;
}

}  // namespace

void validate(const GradScalerOptions& options) {
  require(is_scale(options.init_scale), "init_scale", kScaleRange, options.init_scale);
  require(options.growth_factor > 1 && std::isfinite(options.growth_factor), "growth_factor", "finite and above 1",
          options.growth_factor);
  require(options.backoff_factor > 0 && options.backoff_factor < 1, "backoff_factor", "in (0, 1)", options.backoff_factor);
  require(options.growth_interval > 0, "growth_interval", "above 0", static_cast<double>(options.growth_interval));
}

GradScaler::GradScaler(const GradScalerOptions& options)
    : enabled_(options.enabled),
      scale_(1),
      growth_factor_(options.growth_factor),
      backoff_factor_(options.backoff_factor),
      growth_interval_(options.growth_interval) {
  if (!enabled_) return;
  validate(options);
  scale_ = static_cast<float>(options.init_scale);
}

at::Tensor GradScaler::scale(const at::Tensor& loss) {
  return enabled_ ? loss.mul(at::full({}, scale_, loss.options().dtype(at::kFloat).requires_grad(false))) : loss;
}

bool GradScaler::unscale(torch::optim::Optimizer& optimizer) {
  if (!enabled_) return true;
  auto [progress, first] = progress_.try_emplace(&optimizer);
  if (!first) {
    throw Error(progress->second.stepped ? "unscale was called after step; call update first"
                                         : "unscale was already called for this optimizer since the last update");
  }
  try {
    progress->second.found_non_finite = unscale_gradients(optimizer, scale_);
    return !progress->second.found_non_finite;
  } catch (...) {
    progress_.erase(progress);
    throw;
  }
}

bool GradScaler::step(torch::optim::Optimizer& optimizer) {
  if (!enabled_) {
    optimizer.step();
    return true;
  }
  auto found = progress_.find(&optimizer);
  if (found != progress_.end() && found->second.stepped)
    throw Error("step was already called for this optimizer since the last update");
  if (found == progress_.end()) {
    unscale(optimizer);
    found = progress_.find(&optimizer);
  }
  found->second.stepped = true;
  if (found->second.found_non_finite) return false;
  optimizer.step();
  return true;
}

void GradScaler::update(std::optional<double> new_scale) {
  if (!enabled_) return;
  if (new_scale) {
    require(is_scale(*new_scale), "init_scale", kScaleRange, *new_scale);
    scale_ = static_cast<float>(*new_scale);
    progress_.clear();
    return;
  }
  if (progress_.empty()) throw Error("update was called, but no gradients were unscaled since the last call");
  bool found_non_finite = false;
  for (const auto& [optimizer, progress] : progress_) found_non_finite |= progress.found_non_finite;
  progress_.clear();
  if (found_non_finite) {
    scale_ = static_cast<float>(static_cast<double>(scale_) * backoff_factor_);
    growth_tracker_ = 0;
    return;
  }
  if (++growth_tracker_ < growth_interval_) return;
  // A scale that has become infinite would never come back.
  auto grown = static_cast<float>(static_cast<double>(scale_) * growth_factor_);
  if (std::isfinite(grown)) scale_ = grown;
  growth_tracker_ = 0;
}

Dict GradScaler::state_dict() const {
  if (!enabled_) return {};
  return {{"scale", static_cast<double>(scale_)},
          {"growth_factor", growth_factor_},
          {"backoff_factor", backoff_factor_},
          {"growth_interval", growth_interval_},
          {"_growth_tracker", growth_tracker_}};
}

void GradScaler::check_state_dict(const Dict& state) const {
  if (!enabled_) return;
  ValueView view(state);
  auto number = [&](const char* key, auto legal, const char* range) {
    if (!legal(view[key].as_double())) view[key].fail(fmt::format("must be {}", range));
  };
  number("scale", is_scale, kScaleRange);
  number("growth_factor", [](double v) { return v > 1 && std::isfinite(v); }, "finite and above 1");
  number("backoff_factor", [](double v) { return v > 0 && v < 1; }, "in (0, 1)");
  if (view["growth_interval"].as_int() <= 0) view["growth_interval"].fail("must be above 0");
  if (view["_growth_tracker"].as_int() < 0) view["_growth_tracker"].fail("must be at least 0");
}

void GradScaler::load_state_dict(const Dict& state) {
  check_state_dict(state);
  if (!enabled_) return;
  scale_ = static_cast<float>(state.at("scale").as_double());
  growth_factor_ = state.at("growth_factor").as_double();
  backoff_factor_ = state.at("backoff_factor").as_double();
  growth_interval_ = state.at("growth_interval").as_int();
  growth_tracker_ = state.at("_growth_tracker").as_int();
  progress_.clear();
}

}  // namespace treadle

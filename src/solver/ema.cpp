#include "solver/tensor_kernels.hpp"
#include "solver/tensor_layout.hpp"

#include <treadle/base/errors.hpp>
#include <treadle/base/value_view.hpp>
#include <treadle/solver/ema.hpp>

#include <ATen/core/grad_mode.h>
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <string>
#include <unordered_set>
#include <utility>

namespace treadle {

void validate(const EmaOptions& options) {
  if (!(options.decay >= 0 && options.decay < 1)) {
    throw ConfigError(fmt::format("EmaOptions.decay must be in [0, 1); it is {}", options.decay), "EmaOptions.decay");
  }
  if (options.period <= 0) {
    throw ConfigError(fmt::format("EmaOptions.period must be above 0; it is {}", options.period), "EmaOptions.period");
  }
}

ExponentialMovingAverage::ExponentialMovingAverage(torch::nn::Module& module, const EmaOptions& options) : options_(options) {
  validate(options);
  at::NoGradGuard no_grad;
  std::vector<NamedTensor> all = named_parameters(module);
  if (options.buffers) {
    for (NamedTensor& buffer : named_buffers(module)) all.push_back(std::move(buffer));
  }
  // A shared parameter is averaged once, under its first name.
  std::unordered_set<const void*> seen;
  for (NamedTensor& value : all) {
    if (!value.tensor.defined() || !seen.insert(value.tensor.unsafeGetTensorImpl()).second) continue;
    averages_.push_back({value.name, value.tensor.detach().clone()});
    values_.push_back(std::move(value));
  }
}

void ExponentialMovingAverage::update() {
  require_not_swapped("updated");
  if (++calls_ % options_.period != 0) return;
  at::NoGradGuard no_grad;
  bool copy = num_updates_++ == 0;
  double decay = options_.decay;
  if (options_.warmup)
    decay = std::min(decay, (1.0 + static_cast<double>(num_updates_)) / (10.0 + static_cast<double>(num_updates_)));
  std::vector<LerpTensor<float>> floats;
  std::vector<LerpTensor<double>> doubles;
  for (std::size_t i = 0; i < values_.size(); ++i) {
    const at::Tensor& value = values_[i].tensor;
    const at::Tensor& average = averages_[i].tensor;
    if (copy || !value.is_floating_point()) {
      average.copy_(value);
    } else if (!kernel_can_walk(average) || !same_walk(average, value)) {
      average.lerp_(value, 1 - decay);
    } else if (value.scalar_type() == at::kFloat) {
      floats.push_back({average.mutable_data_ptr<float>(), value.const_data_ptr<float>(), value.numel()});
    } else {
      doubles.push_back({average.mutable_data_ptr<double>(), value.const_data_ptr<double>(), value.numel()});
    }
  }
  lerp_kernel(floats, 1 - decay);
  lerp_kernel(doubles, 1 - decay);
}

void ExponentialMovingAverage::exchange() {
  at::NoGradGuard no_grad;
  for (std::size_t i = 0; i < values_.size(); ++i) {
    at::Tensor kept = values_[i].tensor.detach().clone();
    values_[i].tensor.copy_(averages_[i].tensor);
    averages_[i].tensor.copy_(kept);
  }
}

void ExponentialMovingAverage::require_not_swapped(const char* operation) const {
  if (swapped_) throw Error(fmt::format("a moving average cannot be {} while it stands in the module", operation));
}

ExponentialMovingAverage::Swap::Swap(ExponentialMovingAverage& ema) : ema_(ema) {
  ema_.require_not_swapped("swapped in");
  ema_.exchange();
  ema_.swapped_ = true;
}

ExponentialMovingAverage::Swap::~Swap() {
  ema_.exchange();
  ema_.swapped_ = false;
}

Dict ExponentialMovingAverage::state_dict() const {
  require_not_swapped("saved");
  Dict averages;
  for (const NamedTensor& average : averages_) averages.set(average.name, average.tensor);
  return {{"num_updates", num_updates_}, {"calls", calls_}, {"averages", std::move(averages)}};
}

void ExponentialMovingAverage::check_state_dict(const Dict& state) const {
  require_not_swapped("loaded");
  ValueView view(state);
  if (view["num_updates"].as_int() < 0) view["num_updates"].fail("must be at least 0");
  if (view["calls"].as_int() < 0) view["calls"].fail("must be at least 0");
  ValueView averages = view["averages"];
  for (const NamedTensor& average : averages_) {
    ValueView saved = averages[average.name];
    if (saved.as_tensor().sizes() != average.tensor.sizes()) {
      saved.fail(fmt::format("expected a tensor of shape [{}], found [{}]", fmt::join(average.tensor.sizes(), ", "),
                             fmt::join(saved.as_tensor().sizes(), ", ")));
    }
  }
  if (averages.size() != averages_.size()) {
    for (const auto& [key, value] : averages.as_dict()) {
      bool known =
          std::any_of(averages_.begin(), averages_.end(), [&](const NamedTensor& average) { return Key(average.name) == key; });
      if (!known) averages.fail(fmt::format("the module has no \"{}\"", key.to_string()));
    }
  }
}

void ExponentialMovingAverage::load_state_dict(const Dict& state) {
  check_state_dict(state);
  at::NoGradGuard no_grad;
  num_updates_ = state.at("num_updates").as_int();
  calls_ = state.at("calls").as_int();
  const Dict& averages = state.at("averages").as_dict();
  for (const NamedTensor& average : averages_) average.tensor.copy_(averages.at(average.name).as_tensor());
}

}  // namespace treadle

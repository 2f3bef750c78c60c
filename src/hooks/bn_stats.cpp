#include <treadle/base/errors.hpp>
#include <treadle/hooks/bn_stats.hpp>

#include <ATen/core/grad_mode.h>
#include <ATen/ops/zeros_like.h>
#include <ATen/record_function.h>
#include <fmt/format.h>
#include <torch/nn/modules/batchnorm.h>

#include <optional>
#include <string>
#include <unordered_map>
#include <unordered_set>
#include <vector>

namespace treadle::hooks {
namespace {

struct BnLayer {
  std::string name;
  at::Tensor mean, variance, count;
  std::optional<double>* momentum;
};

template <class Impl>
std::optional<BnLayer> as_layer(const std::string& name, torch::nn::Module& module) {
  auto* norm = module.as<Impl>();
  if (norm == nullptr || !norm->is_training() || !norm->running_mean.defined()) return std::nullopt;
  return BnLayer{name, norm->running_mean, norm->running_var, norm->num_batches_tracked, &norm->options.momentum()};
}

std::vector<BnLayer> bn_layers(torch::nn::Module& model) {
  std::vector<BnLayer> layers;
  std::unordered_set<const torch::nn::Module*> seen;
  model.apply(torch::nn::Module::NamedModuleApplyFunction([&](const std::string& name, torch::nn::Module& module) {
    if (!seen.insert(&module).second) return;
    auto layer = as_layer<torch::nn::BatchNorm1dImpl>(name, module);
    if (!layer) layer = as_layer<torch::nn::BatchNorm2dImpl>(name, module);
    if (!layer) layer = as_layer<torch::nn::BatchNorm3dImpl>(name, module);
    if (layer) layers.push_back(*std::move(layer));
  }));
  return layers;
}

/// Sets the momentum to 1, so that the running statistics are those of the last batch, and keeps what was there. Unless
/// `keep_statistics` is called, they are put back too.
class MomentumOff {
 public:
  explicit MomentumOff(const std::vector<BnLayer>& layers) : layers_(layers) {
    for (const BnLayer& layer : layers_) {
      before_.push_back({*layer.momentum, layer.mean.clone(), layer.variance.clone(), layer.count.clone()});
      *layer.momentum = 1.0;
    }
  }
  ~MomentumOff() {
    const at::NoGradGuard no_grad;
    for (std::size_t i = 0; i < layers_.size(); ++i) {
      *layers_[i].momentum = before_[i].momentum;
      if (done_) continue;
      layers_[i].mean.copy_(before_[i].mean);
      layers_[i].variance.copy_(before_[i].variance);
      layers_[i].count.copy_(before_[i].count);
    }
  }
  MomentumOff(const MomentumOff&) = delete;
  MomentumOff& operator=(const MomentumOff&) = delete;
  void keep_statistics() noexcept { done_ = true; }

 private:
  struct Before {
    std::optional<double> momentum;
    at::Tensor mean, variance, count;
  };
  const std::vector<BnLayer>& layers_;
  std::vector<Before> before_;
  bool done_ = false;
};

/// The number of values per channel of each batch norm call, by the running mean that it was given.
struct SeenBatches {
  std::unordered_map<const at::TensorImpl*, std::vector<std::int64_t>> sizes;
};

// RecordFunction calls plain functions, which find what they write to here.
thread_local SeenBatches* observer = nullptr;

std::unique_ptr<at::ObserverContext> note_batch_norm(const at::RecordFunction& function) {
  if (observer == nullptr) return nullptr;
  const std::string_view name = function.name();
  const bool over_ranks = name == "treadle::sync_batch_norm";
  if (!over_ranks && name != "aten::batch_norm") return nullptr;
  constexpr std::size_t kInput = 0, kRunningMean = 3, kCountOverRanks = 4;
  const auto inputs = function.inputs();
  if (inputs.size() <= kRunningMean || !inputs[kInput].isTensor() || !inputs[kRunningMean].isTensor()) return nullptr;
  const at::Tensor& input = inputs[kInput].toTensor();
  // Positions in space are samples as well.
  const std::int64_t count =
      over_ranks ? static_cast<std::int64_t>(inputs[kCountOverRanks].toDouble()) : input.numel() / input.size(1);
  observer->sizes[inputs[kRunningMean].toTensor().unsafeGetTensorImpl()].push_back(count);
  return nullptr;
}

/// While it lives, batch norm calls of this thread are noted. C++ modules have no forward hooks.
class Observation {
 public:
  explicit Observation(SeenBatches& seen)
      : handle_(at::addThreadLocalCallback(
            at::RecordFunctionCallback(note_batch_norm).needsInputs(true).scopes({at::RecordScope::FUNCTION}))) {
    observer = &seen;
  }
  ~Observation() {
    observer = nullptr;
    at::removeCallback(handle_);
  }
  Observation(const Observation&) = delete;
  Observation& operator=(const Observation&) = delete;

 private:
  at::CallbackHandle handle_;
};

class PopulationStatistics {
 public:
  explicit PopulationStatistics(const BnLayer& layer)
      : mean_(at::zeros_like(layer.mean)), square_mean_(at::zeros_like(layer.variance)) {}

  void update(const at::Tensor& batch_mean, const at::Tensor& batch_variance, std::int64_t size) {
    total_ += size;
    const auto n = static_cast<double>(size);
    const double share = n / static_cast<double>(total_);
    const at::Tensor batch_square_mean = batch_mean.square() + batch_variance * ((n - 1) / n);
    mean_ += (batch_mean - mean_) * share;
    square_mean_ += (batch_square_mean - square_mean_) * share;
  }
  const at::Tensor& mean() const noexcept { return mean_; }
  at::Tensor variance() const { return square_mean_ - mean_.square(); }

 private:
  at::Tensor mean_, square_mean_;
  std::int64_t total_ = 0;
};

void take_batch(const std::vector<BnLayer>& layers, const SeenBatches& seen, std::vector<PopulationStatistics>& statistics) {
  for (std::size_t i = 0; i < layers.size(); ++i) {
    const auto found = seen.sizes.find(layers[i].mean.unsafeGetTensorImpl());
    if (found == seen.sizes.end()) continue;
    if (found->second.size() > 1) {
      throw Error(fmt::format("the batch norm layer \"{}\" is used {} times in one forward pass: it has no exact statistics",
                              layers[i].name, found->second.size()));
    }
    statistics[i].update(layers[i].mean, layers[i].variance, found->second.front());
  }
}

}  // namespace

std::size_t count_bn_layers(torch::nn::Module& model) { return bn_layers(model).size(); }

void update_bn_stats(torch::nn::Module& model, const std::function<void()>& forward, std::int64_t num_iters) {
  if (num_iters < 0)
    throw ConfigError(fmt::format("update_bn_stats: num_iters is {}; at least 0 is needed", num_iters), "num_iters");
  const std::vector<BnLayer> layers = bn_layers(model);
  if (layers.empty()) return;
  const at::NoGradGuard no_grad;
  MomentumOff momentum_off(layers);
  std::vector<PopulationStatistics> statistics(layers.begin(), layers.end());
  for (std::int64_t i = 0; i < num_iters; ++i) {
    SeenBatches seen;
    {
      const Observation observation(seen);
      forward();
    }
    take_batch(layers, seen, statistics);
  }
  for (std::size_t i = 0; i < layers.size(); ++i) {
    layers[i].mean.copy_(statistics[i].mean());
    layers[i].variance.copy_(statistics[i].variance());
  }
  momentum_off.keep_statistics();
}

}  // namespace treadle::hooks

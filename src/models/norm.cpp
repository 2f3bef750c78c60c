#include <treadle/models/frozen_batch_norm.hpp>
#include <treadle/models/model_registry.hpp>
#include <treadle/models/sync_batch_norm.hpp>

#include <torch/nn/modules/batchnorm.h>
#include <torch/nn/modules/normalization.h>

namespace treadle {
namespace {

constexpr std::int64_t kGroups = 32;  // of group norm, as in Detectron2

template <class Module>
Norm norm_of(std::shared_ptr<Module> module) {
  return {module, [norm = module.get()](const at::Tensor& x) { return norm->forward(x); }};
}

Norm group_norm(std::int64_t channels) {
  return norm_of(std::make_shared<torch::nn::GroupNormImpl>(torch::nn::GroupNormOptions(kGroups, channels)));
}

}  // namespace

Registry<NormFactory>& norm_registry() {
  static Registry<NormFactory> registry("norm");
  static const bool filled = [] {
    registry.add("BN", [](std::int64_t channels) { return norm_of(std::make_shared<torch::nn::BatchNorm2dImpl>(channels)); });
    registry.add("FrozenBN", [](std::int64_t channels) { return norm_of(std::make_shared<FrozenBatchNorm2d>(channels)); });
    registry.add("GN", group_norm);
    for (const char* name : {"SyncBN", "nnSyncBN"})
      registry.add(name, [](std::int64_t channels) { return norm_of(std::make_shared<SyncBatchNormImpl>(channels)); });
    return true;
  }();
  static_cast<void>(filled);
  return registry;
}

}  // namespace treadle

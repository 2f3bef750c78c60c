#include <treadle/models/frozen_batch_norm.hpp>

#include <ATen/ops/batch_norm.h>
#include <ATen/ops/ones.h>
#include <ATen/ops/zeros.h>
#include <torch/nn/modules/batchnorm.h>

namespace treadle {

FrozenBatchNorm2d::FrozenBatchNorm2d(std::int64_t channels, double eps, bool counts) : Module("FrozenBatchNorm2d"), eps_(eps) {
  weight_ = register_buffer("weight", at::ones({channels}));
  bias_ = register_buffer("bias", at::zeros({channels}));
  running_mean_ = register_buffer("running_mean", at::zeros({channels}));
  running_var_ = register_buffer("running_var", at::ones({channels}) - eps);
  if (counts) register_buffer("num_batches_tracked", at::zeros({}, at::kLong));
}

at::Tensor FrozenBatchNorm2d::forward(const at::Tensor& x) const {
  if (!x.requires_grad()) return at::batch_norm(x, weight_, bias_, running_mean_, running_var_, false, 0.1, eps_, false);
  // The backward pass of batch_norm computes gradients of weight and bias too.
  const at::Tensor scale = weight_ * (running_var_ + eps_).rsqrt();
  const at::Tensor shift = bias_ - running_mean_ * scale;
  const auto per_channel = [&](const at::Tensor& values) { return values.reshape({1, -1, 1, 1}).to(x.scalar_type()); };
  return x * per_channel(scale) + per_channel(shift);
}

namespace {

void upgrade_frozen(const FrozenBatchNorm2d& norm, const std::string& prefix, Dict& state) {
  const auto fill = [&](const char* name, double value) {
    if (state.contains(prefix + "weight") && !state.contains(prefix + name))
      state.set(prefix + name, at::zeros_like(norm.named_buffers(false)[name]).fill_(value));
  };
  fill("running_mean", 0);
  fill("running_var", 1);
  if (!norm.named_buffers(false).contains("num_batches_tracked")) state.erase(prefix + "num_batches_tracked");
}

// Not `named_modules`, which asks for a shared module.
void upgrade(const torch::nn::Module& module, const std::string& prefix, Dict& state) {
  if (const auto* frozen = dynamic_cast<const FrozenBatchNorm2d*>(&module)) upgrade_frozen(*frozen, prefix, state);
  const bool counts = module.named_buffers(/*recurse=*/false).contains("num_batches_tracked");
  const bool saved = state.contains(prefix + "weight") || state.contains(prefix + "running_mean");
  if (counts && saved && !state.contains(prefix + "num_batches_tracked"))
    state.set(prefix + "num_batches_tracked", at::zeros({}, at::kLong));
  for (const auto& child : module.named_children()) upgrade(*child.value(), prefix + child.key() + ".", state);
}

}  // namespace

Dict upgrade_batch_norms(const torch::nn::Module& module, Dict state) {
  upgrade(module, {}, state);
  return state;
}

}  // namespace treadle

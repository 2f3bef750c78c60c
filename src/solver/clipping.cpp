#include "solver/clipping_walk.hpp"
#include "solver/scale_grads.hpp"
#include "solver/tensor_kernels.hpp"
#include "solver/tensor_layout.hpp"

#include <treadle/base/errors.hpp>
#include <treadle/solver/clipping.hpp>

#include <ATen/core/grad_mode.h>
#include <ATen/ops/add.h>
#include <ATen/ops/clamp.h>
#include <ATen/ops/linalg_vector_norm.h>
#include <ATen/ops/max.h>
#include <ATen/ops/mul.h>
#include <ATen/ops/reciprocal.h>
#include <ATen/ops/scalar_tensor.h>
#include <ATen/ops/stack.h>
#include <ATen/ops/zeros.h>
#include <fmt/format.h>

#include <cmath>
#include <span>
#include <string>

namespace treadle {
namespace {

void require(bool legal, const char* field, const char* range, double found) {
  if (!legal) {
    throw ConfigError(fmt::format("GradientClippingOptions.{} must be {}; it is {}", field, range, found),
                      std::string("GradientClippingOptions.") + field);
  }
}

std::vector<at::Tensor> grads_of(const std::vector<at::Tensor>& params) {
  std::vector<at::Tensor> grads;
  grads.reserve(params.size());
  for (const at::Tensor& param : params) {
    if (param.grad().defined()) grads.push_back(param.grad());
  }
  return grads;
}

std::vector<at::Tensor> on_one_device(std::vector<at::Tensor> scalars) {
  for (at::Tensor& scalar : scalars) scalar = scalar.to(scalars[0].options());
  return scalars;
}

std::optional<at::Tensor> clip_values(const std::vector<at::Tensor>& params, const GradientClippingOptions& options) {
  for (const at::Tensor& grad : grads_of(params)) grad.clamp_(-options.clip_value, options.clip_value);
  return std::nullopt;
}

std::optional<at::Tensor> clip_each_norm(const std::vector<at::Tensor>& params, const GradientClippingOptions& options) {
  std::vector<at::Tensor> grads = grads_of(params);
  std::vector<at::Tensor> norms;
  for (const at::Tensor& grad : grads) norms.push_back(total_norm({grad}, options.norm_type));
  if (norms.empty()) return at::zeros({}, at::kFloat);
  at::Tensor largest = at::stack(on_one_device(norms)).max();
  if (!norm_allows_step(largest, options.non_finite)) return largest;
  for (std::size_t i = 0; i < grads.size(); ++i) clip_grads_with_norm({grads[i]}, options.clip_value, norms[i]);
  return largest;
}

std::optional<at::Tensor> clip_total_norm(const std::vector<at::Tensor>& params, const GradientClippingOptions& options) {
  std::vector<at::Tensor> grads = grads_of(params);
  at::Tensor norm = total_norm(grads, options.norm_type);
  if (norm_allows_step(norm, options.non_finite)) clip_grads_with_norm(grads, options.clip_value, norm);
  return norm;
}

/// The tensors as arrays, without those that are not defined; nothing where one is not for the kernel. `grad_of` is called on
/// each.
template <class GradOf>
std::optional<std::vector<NumberRange<float>>> float_ranges(const std::vector<at::Tensor>& tensors, const GradOf& grad_of) {
  std::vector<NumberRange<float>> ranges;
  ranges.reserve(tensors.size());
  for (const at::Tensor& tensor : tensors) {
    const at::Tensor& grad = grad_of(tensor);
    if (!grad.defined()) continue;
    if (!kernel_can_sum(grad)) return std::nullopt;
    ranges.push_back({static_cast<float*>(grad.unsafeGetTensorImpl()->mutable_data()), grad.numel()});
  }
  return ranges;
}

float norm_of_norms(std::span<const NumberRange<float>> grads) {
  std::vector<float> norms(grads.size());
  norm_kernel(grads, norms.data());
  NumberRange<float> all{norms.data(), static_cast<std::int64_t>(norms.size())};
  float total = 0;
  norm_kernel({&all, 1}, &total);
  return total;
}

/// The order in which ATen sums depends on how it was compiled. The kernel is used where it gives the same bits for samples of
/// all the lengths that the order can depend on.
bool kernel_sums_like_aten() {
  static const bool same = [] {
    at::NoGradGuard no_grad;
    std::uint32_t random = 1;
    for (std::int64_t size = 1; size < 200; ++size) {
      at::Tensor sample = at::zeros({size}, at::kFloat);
      for (std::int64_t i = 0; i < size; ++i) {
        random = random * 1664525U + 1013904223U;
        sample.mutable_data_ptr<float>()[i] = static_cast<float>(random >> 8) * 1e-6F - 8;
      }
      NumberRange<float> numbers{sample.mutable_data_ptr<float>(), size};
      if (norm_of_norms({&numbers, 1}) != at::linalg_vector_norm(sample).item<float>()) return false;
    }
    return true;
  }();
  return same;
}

}  // namespace

ClipType clip_type_from_string(std::string_view text) {
  if (text == "value") return ClipType::value;
  if (text == "norm") return ClipType::norm;
  if (text == "full_model") return ClipType::full_model;
  throw ConfigError(
      fmt::format("the type of gradient clipping must be \"value\", \"norm\" or \"full_model\"; it is \"{}\"", text),
      "GradientClippingOptions.type");
}

void validate(const GradientClippingOptions& options) {
  require(options.clip_value >= 0 && std::isfinite(options.clip_value), "clip_value", "finite and at least 0",
          options.clip_value);
  require(!std::isnan(options.norm_type), "norm_type", "a number or infinity", options.norm_type);
}

namespace {

template <class GradOf>
at::Tensor norm_of(const std::vector<at::Tensor>& tensors, double norm_type, const GradOf& grad_of) {
  at::NoGradGuard no_grad;
  if (norm_type == 2 && kernel_sums_like_aten()) {
    const auto ranges = float_ranges(tensors, grad_of);
    if (ranges && !ranges->empty()) return at::scalar_tensor(norm_of_norms(*ranges), at::kFloat);
  }
  std::vector<at::Tensor> norms;
  for (const at::Tensor& tensor : tensors) {
    if (const at::Tensor& grad = grad_of(tensor); grad.defined()) norms.push_back(at::linalg_vector_norm(grad, norm_type));
  }
  if (norms.empty()) return at::zeros({}, at::kFloat);
  at::Device device = norms[0].device();
  for (at::Tensor& norm : norms) norm = norm.to(device);
  return at::linalg_vector_norm(at::stack(norms), norm_type);
}

}  // namespace

at::Tensor total_norm(const std::vector<at::Tensor>& grads, double norm_type) {
  return norm_of(grads, norm_type, [](const at::Tensor& grad) -> const at::Tensor& { return grad; });
}

at::Tensor total_grad_norm(const std::vector<at::Tensor>& params, double norm_type) {
  return norm_of(params, norm_type, [](const at::Tensor& param) -> const at::Tensor& { return param.grad(); });
}

double clip_factor(double max_norm, const at::Tensor& norm) {
  if (norm.is_cpu() && norm.scalar_type() == at::kFloat) {
    // The operations below, without the cost of calling them.
    const float factor = 1 / (*norm.const_data_ptr<float>() + 1e-6F) * static_cast<float>(max_norm);
    return factor > 1 ? 1 : factor;
  }
  at::NoGradGuard no_grad;
  return norm.add(1e-6).reciprocal().mul(max_norm).clamp_max(1.0).item<double>();
}

bool norm_allows_step(const at::Tensor& norm, NonFiniteNorm policy) {
  if (policy == NonFiniteNorm::pass) return true;
  double value = norm.item<double>();
  if (std::isfinite(value)) return true;
  if (policy == NonFiniteNorm::skip) return false;
  throw Error(fmt::format("the norm of the gradients is {}: nothing was clipped, and no parameter was changed", value));
}

at::Tensor ClippingWalk::norm_of_all(const std::vector<torch::optim::OptimizerParamGroup>& groups) const {
  if (clip_->norm_type == 2 && kernel_takes_all_ && !grads_.empty() && kernel_sums_like_aten()) {
    return at::scalar_tensor(norm_of_norms(grads_), at::kFloat);
  }
  std::vector<at::Tensor> params;
  for (const auto& group : groups) params.insert(params.end(), group.params().begin(), group.params().end());
  return total_grad_norm(params, clip_->norm_type);
}

std::optional<double> ClippingWalk::factor(const std::vector<torch::optim::OptimizerParamGroup>& groups,
                                           std::optional<at::Tensor>& norm) {
  if (!clip_) return 1.0;
  norm = norm_of_all(groups);
  if (!norm_allows_step(*norm, clip_->non_finite)) return std::nullopt;
  for (const at::Tensor* param : unmarked_) mark_written(*param);
  return clip_factor(clip_->clip_value, *norm);
}

void clip_grads_with_norm(const std::vector<at::Tensor>& grads, double max_norm, const at::Tensor& norm) {
  at::NoGradGuard no_grad;
  if (norm.is_cpu()) {
    scale_tensors(grads, clip_factor(max_norm, norm));
    return;
  }
  // Without waiting for the device.
  at::Tensor factor = norm.add(1e-6).reciprocal().mul(max_norm).clamp_max(1.0);
  for (const at::Tensor& grad : grads) {
    if (grad.defined()) grad.mul_(factor.to(grad.device()));
  }
}

void scale_tensors(const std::vector<at::Tensor>& tensors, double factor) {
  if (factor == 1) return;
  std::vector<NumberRange<float>> floats;
  std::vector<NumberRange<double>> doubles;
  for (const at::Tensor& tensor : tensors) {
    if (!tensor.defined()) continue;
    if (!kernel_can_walk(tensor)) {
      tensor.mul_(factor);
      continue;
    }
    void* data = tensor.unsafeGetTensorImpl()->mutable_data();
    if (tensor.scalar_type() == at::kFloat) {
      floats.push_back({static_cast<float*>(data), tensor.numel()});
    } else {
      doubles.push_back({static_cast<double*>(data), tensor.numel()});
    }
    mark_written(tensor);
  }
  scale_kernel(floats, factor);
  scale_kernel(doubles, factor);
}

void scale_grads(const std::vector<at::Tensor>& params, double factor) {
  if (factor != 1) scale_tensors(grads_of(params), factor);
}

GradientClipper create_gradient_clipper(const GradientClippingOptions& options) {
  validate(options);
  return [options](const std::vector<at::Tensor>& params) {
    at::NoGradGuard no_grad;
    switch (options.type) {
      case ClipType::value:
        return clip_values(params, options);
      case ClipType::norm:
        return clip_each_norm(params, options);
      case ClipType::full_model:
        return clip_total_norm(params, options);
    }
    throw Error("an unknown type of gradient clipping");
  };
}

}  // namespace treadle

#include <treadle/base/errors.hpp>
#include <treadle/solver/clipping.hpp>

#include <ATen/core/grad_mode.h>
#include <ATen/ops/add.h>
#include <ATen/ops/clamp.h>
#include <ATen/ops/linalg_vector_norm.h>
#include <ATen/ops/max.h>
#include <ATen/ops/mul.h>
#include <ATen/ops/reciprocal.h>
#include <ATen/ops/stack.h>
#include <ATen/ops/zeros.h>
#include <fmt/format.h>

#include <cmath>
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

void check_finite(const at::Tensor& norm, const GradientClippingOptions& options) {
  if (options.non_finite != NonFiniteNorm::error) return;
  double value = norm.item<double>();
  if (!std::isfinite(value)) throw Error(fmt::format("the norm of the gradients is {}: nothing was clipped or changed", value));
}

std::optional<at::Tensor> clip_values(const std::vector<at::Tensor>& params, const GradientClippingOptions& options) {
  for (at::Tensor& grad : grads_of(params)) grad.clamp_(-options.clip_value, options.clip_value);
  return std::nullopt;
}

std::optional<at::Tensor> clip_each_norm(const std::vector<at::Tensor>& params, const GradientClippingOptions& options) {
  std::vector<at::Tensor> grads = grads_of(params);
  std::vector<at::Tensor> norms;
  for (const at::Tensor& grad : grads) {
    norms.push_back(total_norm({grad}, options.norm_type));
    check_finite(norms.back(), options);
  }
  for (std::size_t i = 0; i < grads.size(); ++i) clip_grads_with_norm({grads[i]}, options.clip_value, norms[i]);
  if (norms.empty()) return at::zeros({}, at::kFloat);
  for (at::Tensor& norm : norms) norm = norm.to(norms[0].options());
  return at::stack(norms).max();
}

std::optional<at::Tensor> clip_total_norm(const std::vector<at::Tensor>& params, const GradientClippingOptions& options) {
  std::vector<at::Tensor> grads = grads_of(params);
  at::Tensor norm = total_norm(grads, options.norm_type);
  check_finite(norm, options);
  clip_grads_with_norm(grads, options.clip_value, norm);
  return norm;
}

}  // namespace

ClipType clip_type_from_string(std::string_view text) {
  if (text == "value") return ClipType::value;
  if (text == "norm") return ClipType::norm;
  if (text == "full_model") return ClipType::full_model;
  throw ConfigError(fmt::format("the type of gradient clipping must be \"value\", \"norm\" or \"full_model\"; it is \"{}\"", text),
                    "GradientClippingOptions.type");
}

void validate(const GradientClippingOptions& options) {
  require(options.clip_value >= 0 && std::isfinite(options.clip_value), "clip_value", "finite and at least 0", options.clip_value);
  require(!std::isnan(options.norm_type), "norm_type", "a number or infinity", options.norm_type);
}

at::Tensor total_norm(const std::vector<at::Tensor>& grads, double norm_type) {
  at::NoGradGuard no_grad;
  std::vector<at::Tensor> norms;
  norms.reserve(grads.size());
  for (const at::Tensor& grad : grads) {
    if (grad.defined()) norms.push_back(at::linalg_vector_norm(grad, norm_type));
  }
  if (norms.empty()) return at::zeros({}, at::kFloat);
  at::Device device = norms[0].device();
  for (at::Tensor& norm : norms) norm = norm.to(device);
  return at::linalg_vector_norm(at::stack(norms), norm_type);
}

void clip_grads_with_norm(const std::vector<at::Tensor>& grads, double max_norm, const at::Tensor& norm) {
  at::NoGradGuard no_grad;
  at::Tensor factor = norm.add(1e-6).reciprocal().mul(max_norm).clamp_max(1.0);
  for (at::Tensor grad : grads) {
    if (grad.defined()) grad.mul_(factor.to(grad.device()));
  }
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

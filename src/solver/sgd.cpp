#include "solver/clipping_walk.hpp"
#include "solver/group_conversion.hpp"
#include "solver/scale_grads.hpp"
#include "solver/state_memory.hpp"
#include "solver/tensor_kernels.hpp"
#include "solver/tensor_layout.hpp"

#include <treadle/base/errors.hpp>
#include <treadle/solver/sgd.hpp>

#include <ATen/core/grad_mode.h>
#include <ATen/ops/_fused_sgd.h>
#include <ATen/ops/add.h>
#include <ATen/ops/neg.h>
#include <fmt/format.h>

#include <cmath>
#include <map>
#include <memory>
#include <optional>
#include <utility>

namespace treadle {
namespace {

using torch::optim::OptimizerParamGroup;
using torch::optim::SGDOptions;
using torch::optim::SGDParamState;

void require(bool legal, const char* field, const char* range, double found) {
  if (!legal)
    throw ConfigError(fmt::format("SgdOptions.{} must be {}; it is {}", field, range, found), std::string("SgdOptions.") + field);
}

SGDOptions torch_options(const SgdOptions& options) {
  return SGDOptions(options.lr)
      .momentum(options.momentum)
      .dampening(options.dampening)
      .weight_decay(options.weight_decay)
      .nesterov(options.nesterov);
}

SgdOptions treadle_options(const SGDOptions& options) {
  return {.lr = options.lr(),
          .momentum = options.momentum(),
          .dampening = options.dampening(),
          .weight_decay = options.weight_decay(),
          .nesterov = options.nesterov()};
}

/// Checks the groups before LibTorch sees anything, and the options before the groups.
std::vector<OptimizerParamGroup> checked_groups(const std::vector<ParamGroup>& groups, const SgdOptions& options) {
  validate(options);
  return bare_torch_groups(groups);
}

}  // namespace

void validate(const SgdOptions& options) {
  require(options.lr >= 0 && std::isfinite(options.lr), "lr", "finite and at least 0", options.lr);
  require(options.momentum >= 0 && options.momentum <= 1, "momentum", "in [0, 1]", options.momentum);
  require(options.dampening >= 0 && options.dampening <= 1, "dampening", "in [0, 1]", options.dampening);
  require(options.weight_decay >= 0 && std::isfinite(options.weight_decay), "weight_decay", "finite and at least 0",
          options.weight_decay);
  require(!options.nesterov || options.momentum > 0, "momentum", "above 0 with nesterov", options.momentum);
  require(!options.nesterov || options.dampening == 0, "dampening", "0 with nesterov", options.dampening);
}

Sgd::Sgd(const std::vector<ParamGroup>& groups, const SgdOptions& options)
    : torch::optim::SGD(checked_groups(groups, options), torch_options(options)),
      GroupInfoHolder(group_infos(groups), {.maximize = options.maximize, .fused = options.fused}) {
  set_group_options(*this, groups, torch_options(options));
  for (std::size_t g = 0; g < groups.size(); ++g) {
    try {
      validate(treadle_options(static_cast<const SGDOptions&>(param_groups_[g].options())));
    } catch (const ConfigError& error) {
      throw_group_error(groups, g, error.what());
    }
  }
}

Sgd::Sgd(std::vector<at::Tensor> params, const SgdOptions& options)
    : Sgd({ParamGroup{.params = std::move(params), .names = {}, .options = {}}}, options) {}

namespace {

/// What one parameter needs, in the operations that Python's implementation calls; for any device, dtype and layout.
void plain_step(const at::Tensor& param, const at::Tensor& grad, at::Tensor& momentum_buffer, const SGDOptions& options,
                bool maximize) {
  at::Tensor step = maximize ? grad.neg() : grad;
  if (options.weight_decay() != 0) step = step.add(param, options.weight_decay());
  if (options.momentum() != 0) {
    if (!momentum_buffer.defined()) {
      momentum_buffer = step.clone();
    } else {
      momentum_buffer.mul_(options.momentum()).add_(step, 1 - options.dampening());
    }
    step = options.nesterov() ? step.add(momentum_buffer, options.momentum()) : momentum_buffer;
  }
  param.add_(step, -options.lr());
}

/// The tensors of one group that the kernel takes, by dtype and by whether they have a momentum buffer already.
struct KernelBatch {
  std::vector<SgdTensor<float>> floats[2];
  std::vector<SgdTensor<double>> doubles[2];

  void add(const at::Tensor& param, const at::Tensor& grad, const at::Tensor& buffer, bool first) {
    if (param.scalar_type() == at::kFloat) {
      floats[first].push_back(entry<float>(param, grad, buffer));
    } else {
      doubles[first].push_back(entry<double>(param, grad, buffer));
    }
  }
  void run(SgdScalars scalars) const {
    for (bool first : {false, true}) {
      scalars.first = first;
      if (!floats[first].empty()) sgd_kernel(floats[first], scalars);
      if (!doubles[first].empty()) sgd_kernel(doubles[first], scalars);
    }
  }

 private:
  template <class T>
  static SgdTensor<T> entry(const at::Tensor& param, const at::Tensor& grad, const at::Tensor& buffer) {
    auto data = [](const at::Tensor& tensor) { return static_cast<T*>(tensor.unsafeGetTensorImpl()->mutable_data()); };
    return {data(param), data(grad), buffer.defined() ? data(buffer) : nullptr, param.numel()};
  }
};

/// One group after the walk over its parameters.
struct GroupWork {
  KernelBatch batch;
  std::vector<const at::Tensor*> rest;  // those in their first step, and those that the kernel does not take
};

bool kernel_takes(const at::Tensor& param, const at::Tensor& grad, const at::Tensor& buffer) {
  return kernel_can_walk(param) && same_walk(param, grad) && (!buffer.defined() || same_walk(param, buffer));
}

at::Tensor& made_buffer(States& states, const at::Tensor& param) {
  auto& entry = states[param.unsafeGetTensorImpl()];
  if (!entry) entry = std::make_unique<SGDParamState>();
  return static_cast<SGDParamState&>(*entry).momentum_buffer();
}

/// Changes nothing that anybody could see before `clipping` has its verdict.
GroupWork walk(const OptimizerParamGroup& group, const States& states, ClippingWalk& clipping) {
  static const at::Tensor none;
  const bool has_momentum = static_cast<const SGDOptions&>(group.options()).momentum() != 0;
  GroupWork work;
  for (const at::Tensor& param : group.params()) {
    const at::Tensor& grad = param.grad();
    if (!grad.defined()) continue;
    clipping.meet(grad);
    const auto found = has_momentum ? states.find(param.unsafeGetTensorImpl()) : states.end();
    const at::Tensor& buffer =
        found == states.end() || !found->second ? none : static_cast<const SGDParamState&>(*found->second).momentum_buffer();
    if (buffer.defined() != has_momentum || !kernel_takes(param, grad, buffer)) {
      work.rest.push_back(&param);
    } else {
      work.batch.add(param, grad, buffer, /*first=*/false);
      clipping.will_write(param);
    }
  }
  return work;
}

void run(GroupWork& work, States& states, const SgdScalars& scalars, const SGDOptions& options) {
  for (const at::Tensor* param : work.rest) {
    const at::Tensor& grad = param->grad();
    at::Tensor none;
    at::Tensor& buffer = options.momentum() != 0 ? made_buffer(states, *param) : none;
    if (!kernel_takes(*param, grad, buffer)) {
      if (scalars.clip_factor != 1) param->mutable_grad().mul_(scalars.clip_factor);
      plain_step(*param, grad, buffer, options, scalars.maximize);
      continue;
    }
    buffer = empty_state_like(grad);
    work.batch.add(*param, grad, buffer, /*first=*/true);
    mark_written(*param);
  }
  work.batch.run(scalars);
}

}  // namespace

at::Tensor Sgd::step(LossClosure closure) {
  at::Tensor loss;
  if (closure) {
    at::AutoGradMode enable_grad(true);
    loss = closure();
  }
  at::NoGradGuard no_grad;
  ClippingWalk clipping(take_clipping());
  std::vector<GroupWork> work;
  for (const OptimizerParamGroup& group : param_groups_) {
    if (!switches().fused) work.push_back(walk(group, state_, clipping));
  }
  const std::optional<double> factor = clipping.factor(param_groups_, norm_);
  if (!factor) return loss;
  for (std::size_t g = 0; g < param_groups_.size(); ++g) {
    OptimizerParamGroup& group = param_groups_[g];
    const auto& options = static_cast<const SGDOptions&>(group.options());
    if (switches().fused) {
      scale_grads(group.params(), *factor);
      step_fused(group);
      continue;
    }
    run(work[g], state_,
        {.lr = options.lr(),
         .momentum = options.momentum(),
         .dampening = options.dampening(),
         .weight_decay = options.weight_decay(),
         .nesterov = options.nesterov(),
         .maximize = switches().maximize,
         .clip_factor = *factor,
         .first = false},
        options);
  }
  return loss;
}

void Sgd::step_fused(OptimizerParamGroup& group) {
  const auto& options = static_cast<const SGDOptions&>(group.options());
  struct Lists {
    std::vector<at::Tensor> params, grads, buffers;
  };
  // ATen's kernel takes tensors of one device and dtype, all in their first step or none.
  std::map<std::tuple<c10::DeviceType, int, at::ScalarType, bool>, Lists> batches;
  for (const at::Tensor& param : group.params()) {
    const at::Tensor& grad = param.grad();
    if (!grad.defined()) continue;
    at::Tensor none;
    at::Tensor& buffer = options.momentum() != 0 ? made_buffer(state_, param) : none;
    if (!same_layout(param, grad) || (buffer.defined() && !same_layout(param, buffer))) {
      plain_step(param, grad, buffer, options, switches().maximize);
      continue;
    }
    bool first = options.momentum() != 0 && !buffer.defined();
    if (first) buffer = empty_state_like(grad);
    Lists& lists = batches[{param.device().type(), param.device().index(), param.scalar_type(), first}];
    lists.params.push_back(param);
    lists.grads.push_back(grad);
    if (buffer.defined()) lists.buffers.push_back(buffer);
  }
  for (auto& [key, lists] : batches) {
    at::_fused_sgd_(lists.params, lists.grads, lists.buffers, options.weight_decay(), options.momentum(), options.lr(),
                    options.dampening(), options.nesterov(), switches().maximize, /*is_first_step=*/std::get<3>(key));
  }
}

}  // namespace treadle

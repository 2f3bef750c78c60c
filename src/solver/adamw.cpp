#include "solver/adam_batch.hpp"
#include "solver/adam_kernel.hpp"
#include "solver/clipping_walk.hpp"
#include "solver/group_conversion.hpp"
#include "solver/scale_grads.hpp"
#include "solver/state_memory.hpp"
#include "solver/tensor_layout.hpp"

#include <treadle/base/errors.hpp>
#include <treadle/solver/adamw.hpp>

#include <ATen/core/grad_mode.h>
#include <ATen/ops/_fused_adam.h>
#include <ATen/ops/_fused_adamw.h>
#include <ATen/ops/add.h>
#include <ATen/ops/full.h>
#include <ATen/ops/maximum.h>
#include <ATen/ops/neg.h>
#include <ATen/ops/sqrt.h>
#include <fmt/format.h>

#include <cmath>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

namespace treadle {
namespace {

using torch::optim::OptimizerParamGroup;

void require(bool legal, const char* field, const char* range, double found) {
  if (!legal)
    throw ConfigError(fmt::format("AdamOptions.{} must be {}; it is {}", field, range, found),
                      std::string("AdamOptions.") + field);
}

template <class TorchOptions>
TorchOptions torch_options(const AdamOptions& options) {
  TorchOptions converted(options.lr);
  converted.betas({options.beta1, options.beta2}).eps(options.eps).weight_decay(options.weight_decay).amsgrad(options.amsgrad);
  return converted;
}

template <class TorchOptions>
AdamOptions treadle_options(const TorchOptions& options) {
  return {.lr = options.lr(),
          .beta1 = std::get<0>(options.betas()),
          .beta2 = std::get<1>(options.betas()),
          .eps = options.eps(),
          .weight_decay = options.weight_decay(),
          .amsgrad = options.amsgrad()};
}

std::vector<OptimizerParamGroup> checked_groups(const std::vector<ParamGroup>& groups, const AdamOptions& options) {
  validate(options);
  return bare_torch_groups(groups);
}

template <class TorchOptions>
void set_checked_options(torch::optim::Optimizer& optimizer, const std::vector<ParamGroup>& groups, const AdamOptions& options) {
  set_group_options(optimizer, groups, torch_options<TorchOptions>(options));
  for (std::size_t g = 0; g < groups.size(); ++g) {
    try {
      validate(treadle_options(static_cast<const TorchOptions&>(optimizer.param_groups()[g].options())));
    } catch (const ConfigError& error) {
      throw_group_error(groups, g, error.what());
    }
  }
}

/// The update in the operations that Python's implementation calls; for any device, dtype and layout.
void plain_update(const AdamUpdate& update, const AdamScalars& scalars) {
  auto step = static_cast<double>(update.step);
  if (scalars.clip_factor != 1) update.param.mutable_grad().mul_(scalars.clip_factor);
  at::Tensor grad = scalars.maximize ? update.grad.neg() : update.grad;
  if (scalars.weight_decay != 0) {
    if (scalars.decoupled) {
      update.param.mul_(1 - scalars.lr * scalars.weight_decay);
    } else {
      grad = grad.add(update.param, scalars.weight_decay);
    }
  }
  update.exp_avg.lerp_(grad, 1 - scalars.beta1);
  update.exp_avg_sq.mul_(scalars.beta2).addcmul_(grad, grad, 1 - scalars.beta2);
  at::Tensor square = update.exp_avg_sq;
  if (update.max_exp_avg_sq.defined()) {
    update.max_exp_avg_sq.copy_(at::maximum(update.max_exp_avg_sq, update.exp_avg_sq));
    square = update.max_exp_avg_sq;
  }
  at::Tensor denominator = square.sqrt().div_(std::sqrt(1 - std::pow(scalars.beta2, step))).add_(scalars.eps);
  update.param.addcdiv_(update.exp_avg, denominator, -(scalars.lr / (1 - std::pow(scalars.beta1, step))));
}

template <class State>
bool is_complete(const State& state, bool amsgrad) {
  return !amsgrad || state.max_exp_avg_sq().defined();  // a loaded state may lack it
}

template <class State>
State& made_state(States& states, const at::Tensor& param, bool amsgrad) {
  auto zeros = [&] { return empty_state_like(param).zero_(); };
  auto& entry = states[param.unsafeGetTensorImpl()];
  if (!entry) {
    auto made = std::make_unique<State>();
    made->step(0);
    made->exp_avg(zeros());
    made->exp_avg_sq(zeros());
    entry = std::move(made);
  }
  auto& state = static_cast<State&>(*entry);
  if (!is_complete(state, amsgrad)) state.max_exp_avg_sq(zeros());
  return state;
}

/// What ATen's fused kernel gets in one call: tensors of one device, dtype and step.
struct FusedLists {
  std::vector<at::Tensor> params, grads, exp_avgs, exp_avg_sqs, max_exp_avg_sqs;

  void add(const AdamUpdate& update) {
    params.push_back(update.param);
    grads.push_back(update.grad);
    exp_avgs.push_back(update.exp_avg);
    exp_avg_sqs.push_back(update.exp_avg_sq);
    if (update.max_exp_avg_sq.defined()) max_exp_avg_sqs.push_back(update.max_exp_avg_sq);
  }

  void run(const AdamScalars& scalars, std::int64_t step) {
    // The kernel only reads the counts, so that one tensor serves for all.
    std::vector<at::Tensor> steps(params.size(),
                                  at::full({}, static_cast<double>(step), at::device(params[0].device()).dtype(at::kFloat)));
    bool amsgrad = !max_exp_avg_sqs.empty();
    bool maximize = scalars.maximize;
    if (scalars.decoupled) {
      at::_fused_adamw_(params, grads, exp_avgs, exp_avg_sqs, max_exp_avg_sqs, steps, scalars.lr, scalars.beta1, scalars.beta2,
                        scalars.weight_decay, scalars.eps, amsgrad, maximize);
    } else {
      at::_fused_adam_(params, grads, exp_avgs, exp_avg_sqs, max_exp_avg_sqs, steps, scalars.lr, scalars.beta1, scalars.beta2,
                       scalars.weight_decay, scalars.eps, amsgrad, maximize);
    }
  }
};

bool fused_takes(const AdamUpdate& update) {
  return same_layout(update.param, update.grad) && same_layout(update.param, update.exp_avg) &&
         same_layout(update.param, update.exp_avg_sq) &&
         (!update.max_exp_avg_sq.defined() || same_layout(update.param, update.max_exp_avg_sq));
}

/// Steps one group: each parameter by the kernel, by ATen's fused kernel, or operation by operation.
class GroupStep {
 public:
  GroupStep(const AdamScalars& scalars, bool fused) : scalars_(scalars), fused_(fused) {}

  void set_clip_factor(double factor) { scalars_.clip_factor = factor; }

  /// For the kernel: nothing happens before `run`.
  void add_to_kernel(const AdamUpdate& update) {
    if (update.param.scalar_type() == at::kFloat) {
      floats_.add(update);
    } else {
      doubles_.add(update);
    }
  }

  void add(const AdamUpdate& update) {
    if (fused_ && fused_takes(update)) {
      lists_[{update.param.device().type(), update.param.device().index(), update.param.scalar_type(), update.step}].add(update);
    } else if (fused_ || !kernel_takes(update)) {
      plain_update(update, scalars_);
    } else {
      add_to_kernel(update);
      mark_written(update.param);
    }
  }

  void run() {
    floats_.run(scalars_);
    doubles_.run(scalars_);
    for (auto& [key, lists] : lists_) lists.run(scalars_, std::get<3>(key));
  }

 private:
  AdamScalars scalars_;
  bool fused_;
  AdamBatch<float> floats_;
  AdamBatch<double> doubles_;
  std::map<std::tuple<c10::DeviceType, int, at::ScalarType, std::int64_t>, FusedLists> lists_;
};

/// One group after the walk over its parameters.
template <class State>
struct GroupWork {
  GroupStep step;
  std::vector<State*> stepped{};          // of the parameters that `step` knows, not yet counted up
  std::vector<const at::Tensor*> rest{};  // those without a state, and those that the kernel does not take
};

template <class State>
AdamUpdate update_of(const at::Tensor& param, const State& state, std::int64_t step, bool amsgrad) {
  static const at::Tensor none;
  return {param, param.grad(), state.exp_avg(), state.exp_avg_sq(), amsgrad ? state.max_exp_avg_sq() : none, step};
}

/// Changes nothing that anybody could see before `clipping` has its verdict.
template <class State>
void walk(const std::vector<at::Tensor>& params, const States& states, bool amsgrad, bool fused, ClippingWalk& clipping,
          GroupWork<State>& work) {
  for (const at::Tensor& param : params) {
    const at::Tensor& grad = param.grad();
    if (!grad.defined()) continue;
    if (grad.is_sparse()) throw Error("Adam and AdamW take no sparse gradients; use SGD for such a parameter");
    clipping.meet(grad);
    const auto found = states.find(param.unsafeGetTensorImpl());
    auto* state = found == states.end() ? nullptr : static_cast<State*>(found->second.get());
    if (fused || !state || !is_complete(*state, amsgrad)) {
      work.rest.push_back(&param);
      continue;
    }
    const AdamUpdate update = update_of(param, *state, state->step() + 1, amsgrad);
    if (!kernel_takes(update)) {
      work.rest.push_back(&param);
      continue;
    }
    work.step.add_to_kernel(update);
    work.stepped.push_back(state);
    clipping.will_write(param);
  }
}

template <class State>
void run(GroupWork<State>& work, States& states, bool amsgrad) {
  for (State* state : work.stepped) state->step(state->step() + 1);
  for (const at::Tensor* param : work.rest) {
    State& state = made_state<State>(states, *param, amsgrad);
    state.step(state.step() + 1);
    work.step.add(update_of(*param, state, state.step(), amsgrad));
  }
  work.step.run();
}

template <class TorchOptions, class State>
void step_groups(std::vector<OptimizerParamGroup>& groups, States& states, const OptimizerSwitches& switches,
                 ClippingWalk clipping, std::optional<at::Tensor>& norm, bool decoupled) {
  at::NoGradGuard no_grad;
  std::vector<GroupWork<State>> work;
  for (const OptimizerParamGroup& group : groups) {
    const auto& options = static_cast<const TorchOptions&>(group.options());
    const AdamScalars scalars{.lr = options.lr(),
                              .beta1 = std::get<0>(options.betas()),
                              .beta2 = std::get<1>(options.betas()),
                              .eps = options.eps(),
                              .weight_decay = options.weight_decay(),
                              .decoupled = decoupled,
                              .maximize = switches.maximize,
                              .clip_factor = 1,
                              .step = 0};
    work.push_back({GroupStep(scalars, switches.fused)});
    walk(group.params(), states, options.amsgrad(), switches.fused, clipping, work.back());
  }
  const std::optional<double> factor = clipping.factor(groups, norm);
  if (!factor) return;
  for (std::size_t g = 0; g < groups.size(); ++g) {
    if (switches.fused) {
      scale_grads(groups[g].params(), *factor);
    } else {
      work[g].step.set_clip_factor(*factor);
    }
    run(work[g], states, static_cast<const TorchOptions&>(groups[g].options()).amsgrad());
  }
}

at::Tensor loss_of(const torch::optim::Optimizer::LossClosure& closure) {
  if (!closure) return {};
  at::AutoGradMode enable_grad(true);
  return closure();
}

ParamGroup whole_group(std::vector<at::Tensor> params) { return {.params = std::move(params), .names = {}, .options = {}}; }

}  // namespace

void validate(const AdamOptions& options) {
  require(options.lr >= 0 && std::isfinite(options.lr), "lr", "finite and at least 0", options.lr);
  require(options.beta1 >= 0 && options.beta1 < 1, "beta1", "in [0, 1)", options.beta1);
  require(options.beta2 >= 0 && options.beta2 < 1, "beta2", "in [0, 1)", options.beta2);
  require(options.eps >= 0 && std::isfinite(options.eps), "eps", "finite and at least 0", options.eps);
  require(options.weight_decay >= 0 && std::isfinite(options.weight_decay), "weight_decay", "finite and at least 0",
          options.weight_decay);
}

AdamW::AdamW(const std::vector<ParamGroup>& groups, const AdamOptions& options)
    : torch::optim::AdamW(checked_groups(groups, options), torch_options<torch::optim::AdamWOptions>(options)),
      GroupInfoHolder(group_infos(groups), {.maximize = options.maximize, .fused = options.fused}) {
  set_checked_options<torch::optim::AdamWOptions>(*this, groups, options);
}

AdamW::AdamW(std::vector<at::Tensor> params, const AdamOptions& options) : AdamW({whole_group(std::move(params))}, options) {}

at::Tensor AdamW::step(LossClosure closure) {
  at::Tensor loss = loss_of(closure);
  step_groups<torch::optim::AdamWOptions, torch::optim::AdamWParamState>(
      param_groups_, state_, switches(), ClippingWalk(take_clipping()), norm_, /*decoupled=*/true);
  return loss;
}

Adam::Adam(const std::vector<ParamGroup>& groups, const AdamOptions& options)
    : torch::optim::Adam(checked_groups(groups, options), torch_options<torch::optim::AdamOptions>(options)),
      GroupInfoHolder(group_infos(groups), {.maximize = options.maximize, .fused = options.fused}) {
  set_checked_options<torch::optim::AdamOptions>(*this, groups, options);
}

Adam::Adam(std::vector<at::Tensor> params, const AdamOptions& options) : Adam({whole_group(std::move(params))}, options) {}

at::Tensor Adam::step(LossClosure closure) {
  at::Tensor loss = loss_of(closure);
  step_groups<torch::optim::AdamOptions, torch::optim::AdamParamState>(param_groups_, state_, switches(),
                                                                       ClippingWalk(take_clipping()), norm_, /*decoupled=*/false);
  return loss;
}

}  // namespace treadle

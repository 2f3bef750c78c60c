#include "solver/adam_kernel.hpp"
#include "solver/group_conversion.hpp"
#include "solver/scale_grads.hpp"
#include "solver/tensor_layout.hpp"

#include <treadle/base/errors.hpp>
#include <treadle/solver/adamw.hpp>

#include <ATen/Parallel.h>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/_fused_adam.h>
#include <ATen/ops/_fused_adamw.h>
#include <ATen/ops/add.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/full.h>
#include <ATen/ops/maximum.h>
#include <ATen/ops/neg.h>
#include <ATen/ops/sqrt.h>
#include <ATen/ops/sqrt_cpu_dispatch.h>
#include <ATen/ops/zeros.h>
#include <ATen/ops/zeros_like.h>
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <utility>

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

/// One parameter with all that its update reads and writes.
struct Update {
  const at::Tensor& param;
  const at::Tensor& grad;
  const at::Tensor& exp_avg;
  const at::Tensor& exp_avg_sq;
  const at::Tensor& max_exp_avg_sq;  // undefined without amsgrad
  std::int64_t step;                 // this one included
};

/// The update in the operations that Python's implementation calls; for any device, dtype and layout.
void plain_update(const Update& update, const AdamScalars& scalars) {
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

bool kernel_takes(const Update& update) {
  return kernel_can_walk(update.param) && same_walk(update.param, update.grad) && same_walk(update.param, update.exp_avg) &&
         same_walk(update.param, update.exp_avg_sq) &&
         (!update.max_exp_avg_sq.defined() || same_walk(update.param, update.max_exp_avg_sq));
}

/// Runs the kernel over the tensors of one dtype, block by block, so that a block is still in the cache when its second half
/// begins. The pieces of a block share one scratch for the square roots: one call of ATen for many small tensors. Its results do
/// not depend on where in a block a number lies.
template <class T>
class AdamBatch {
 public:
  void add(const Update& update) {
    auto data = [](const at::Tensor& tensor) { return static_cast<T*>(tensor.unsafeGetTensorImpl()->mutable_data()); };
    AdamTensor<T> tensor{.param = data(update.param),
                         .grad = data(update.grad),
                         .exp_avg = data(update.exp_avg),
                         .exp_avg_sq = data(update.exp_avg_sq),
                         .max_exp_avg_sq = update.max_exp_avg_sq.defined() ? data(update.max_exp_avg_sq) : nullptr,
                         .denominator = nullptr,
                         .size = update.param.numel()};
    Pieces& pieces = by_step_[update.step];
    for (std::int64_t begin = 0; begin < tensor.size; begin += kBlock) pieces.add(tensor, begin);
    mark_written(update.param);
  }

  void run(AdamScalars scalars) {
    for (auto& [step, pieces] : by_step_) {
      scalars.step = step;
      const AdamKernel<T> kernel(scalars);
      at::parallel_for(0, static_cast<std::int64_t>(pieces.blocks.size()), kParallelBlocks,
                       [&](std::int64_t begin, std::int64_t end) {
                         run_blocks(pieces, static_cast<std::size_t>(begin), static_cast<std::size_t>(end), kernel);
                       });
    }
  }

 private:
  static constexpr std::int64_t kBlock = 65536;
  static constexpr std::int64_t kParallelBlocks = 2;

  struct Pieces {
    std::vector<AdamTensor<T>> tensors;
    std::vector<std::size_t> blocks;  // the first piece of each
    std::int64_t used = kBlock;       // numbers in the last block

    void add(AdamTensor<T> tensor, std::int64_t begin) {
      tensor.param += begin;
      tensor.grad += begin;
      tensor.exp_avg += begin;
      tensor.exp_avg_sq += begin;
      if (tensor.max_exp_avg_sq) tensor.max_exp_avg_sq += begin;
      tensor.size = std::min(tensor.size - begin, kBlock);
      if (used + tensor.size > kBlock) {
        blocks.push_back(tensors.size());
        used = 0;
      }
      used += tensor.size;
      tensors.push_back(tensor);
    }

    std::int64_t size_of_block(std::size_t index) {
      std::int64_t size = 0;
      for (const AdamTensor<T>& piece : block(index)) size += piece.size;
      return size;
    }

    std::span<AdamTensor<T>> block(std::size_t index) {
      std::size_t end = index + 1 < blocks.size() ? blocks[index + 1] : tensors.size();
      return {tensors.data() + blocks[index], end - blocks[index]};
    }
  };

  static void run_blocks(Pieces& pieces, std::size_t begin, std::size_t end, const AdamKernel<T>& kernel) {
    std::int64_t largest = 0;
    for (std::size_t i = begin; i < end; ++i) largest = std::max(largest, pieces.size_of_block(i));
    // Zeros, because roots are also taken of what is left of a block behind its last piece.
    at::Tensor squares = at::zeros({largest}, c10::CppTypeToScalarType<T>::value);
    for (std::size_t i = begin; i < end; ++i) {
      std::span<AdamTensor<T>> block = pieces.block(i);
      std::int64_t used = place(block, squares);
      kernel.moments(block);
      take_roots(squares, used);
      kernel.update(block);
    }
  }

  /// Gives each piece its part of `squares`, and returns how much of it is used.
  static std::int64_t place(std::span<AdamTensor<T>> block, const at::Tensor& squares) {
    T* free = squares.mutable_data_ptr<T>();
    for (AdamTensor<T>& piece : block) {
      piece.denominator = free;
      free += piece.size;
    }
    return free - squares.const_data_ptr<T>();
  }

  static void take_roots(const at::Tensor& squares, std::int64_t used) {
    // A view costs more than the roots of the few numbers behind a nearly full block.
    at::Tensor roots = used + used / 8 < squares.numel() ? squares.narrow(0, 0, used) : squares;
    at::cpu::sqrt_(roots);
  }

  std::map<std::int64_t, Pieces> by_step_;
};

template <class State>
State& state_of(auto& states, const at::Tensor& param, bool amsgrad) {
  void* key = param.unsafeGetTensorImpl();
  auto& entry = states[key];
  if (!entry) {
    auto made = std::make_unique<State>();
    made->step(0);
    made->exp_avg(at::zeros_like(param));
    made->exp_avg_sq(at::zeros_like(param));
    entry = std::move(made);
  }
  auto& state = static_cast<State&>(*entry);
  // A loaded state may lack it.
  if (amsgrad && !state.max_exp_avg_sq().defined()) state.max_exp_avg_sq(at::zeros_like(param));
  return state;
}

/// What ATen's fused kernel gets in one call: tensors of one device, dtype and step.
struct FusedLists {
  std::vector<at::Tensor> params, grads, exp_avgs, exp_avg_sqs, max_exp_avg_sqs;

  void add(const Update& update) {
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

bool fused_takes(const Update& update) {
  return same_layout(update.param, update.grad) && same_layout(update.param, update.exp_avg) &&
         same_layout(update.param, update.exp_avg_sq) &&
         (!update.max_exp_avg_sq.defined() || same_layout(update.param, update.max_exp_avg_sq));
}

/// Goes over one group: each parameter to the kernel, to ATen's fused kernel, or step by step.
class GroupStep {
 public:
  GroupStep(const AdamScalars& scalars, bool fused) : scalars_(scalars), fused_(fused) {}

  void add(const Update& update) {
    if (fused_ && fused_takes(update)) {
      lists_[{update.param.device().type(), update.param.device().index(), update.param.scalar_type(), update.step}].add(update);
    } else if (fused_ || !kernel_takes(update)) {
      plain_update(update, scalars_);
    } else if (update.param.scalar_type() == at::kFloat) {
      floats_.add(update);
    } else {
      doubles_.add(update);
    }
  }

  void run() {
    floats_.run(scalars_);
    doubles_.run(scalars_);
    for (auto& [key, lists] : lists_) lists.run(scalars_, std::get<3>(key));
  }

 private:
  const AdamScalars& scalars_;
  bool fused_;
  AdamBatch<float> floats_;
  AdamBatch<double> doubles_;
  std::map<std::tuple<c10::DeviceType, int, at::ScalarType, std::int64_t>, FusedLists> lists_;
};

template <class TorchOptions, class State>
void step_groups(std::vector<OptimizerParamGroup>& groups, auto& states, const OptimizerSwitches& switches, double clip_factor,
                 bool decoupled) {
  at::NoGradGuard no_grad;
  for (OptimizerParamGroup& group : groups) {
    const auto& options = static_cast<const TorchOptions&>(group.options());
    AdamScalars scalars{.lr = options.lr(),
                        .beta1 = std::get<0>(options.betas()),
                        .beta2 = std::get<1>(options.betas()),
                        .eps = options.eps(),
                        .weight_decay = options.weight_decay(),
                        .decoupled = decoupled,
                        .maximize = switches.maximize,
                        .clip_factor = switches.fused ? 1.0 : clip_factor,
                        .step = 0};
    if (switches.fused) scale_grads(group.params(), clip_factor);
    GroupStep step(scalars, switches.fused);
    for (const at::Tensor& param : group.params()) {
      const at::Tensor& grad = param.grad();
      if (!grad.defined()) continue;
      if (grad.is_sparse()) throw Error("Adam and AdamW take no sparse gradients; use SGD for such a parameter");
      State& state = state_of<State>(states, param, options.amsgrad());
      state.step(state.step() + 1);
      static const at::Tensor none;
      step.add(
          {param, grad, state.exp_avg(), state.exp_avg_sq(), options.amsgrad() ? state.max_exp_avg_sq() : none, state.step()});
    }
    step.run();
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
  step_groups<torch::optim::AdamWOptions, torch::optim::AdamWParamState>(param_groups_, state_, switches(), take_clip_factor(),
                                                                         /*decoupled=*/true);
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
  step_groups<torch::optim::AdamOptions, torch::optim::AdamParamState>(param_groups_, state_, switches(), take_clip_factor(),
                                                                       /*decoupled=*/false);
  return loss;
}

}  // namespace treadle

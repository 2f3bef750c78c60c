#pragma once

// Which fields LibTorch's optimizers have, by Python's names and in Python's order: one list per class, visited for writing and
// for reading. A visitor has
//   option(key, field)      an option of a group
//   fixed(key, value)       a key that Python writes and LibTorch has no field for
//   counter(key, field)     a step count, in Python a float32 tensor
//   tensor(key, field, Need)

#include <treadle/base/value.hpp>

#include <torch/optim/adagrad.h>
#include <torch/optim/adam.h>
#include <torch/optim/adamw.h>
#include <torch/optim/lbfgs.h>
#include <torch/optim/rmsprop.h>
#include <torch/optim/sgd.h>

#include <type_traits>

namespace treadle {

enum class Need { required, optional };

template <class T, class Bare>
concept Same = std::is_same_v<std::remove_const_t<T>, Bare>;

template <Same<torch::optim::SGDOptions> O, class V>
void visit_options(O& options, V& visitor) {
  visitor.option("lr", options.lr());
  visitor.option("momentum", options.momentum());
  visitor.option("dampening", options.dampening());
  visitor.option("weight_decay", options.weight_decay());
  visitor.option("nesterov", options.nesterov());
  visitor.fixed("maximize", false);
  visitor.fixed("foreach", nullptr);
  visitor.fixed("differentiable", false);
  visitor.fixed("fused", nullptr);
}

template <class O, class V>
  requires Same<O, torch::optim::AdamOptions> || Same<O, torch::optim::AdamWOptions>
void visit_options(O& options, V& visitor) {
  visitor.option("lr", options.lr());
  visitor.option("betas", options.betas());
  visitor.option("eps", options.eps());
  visitor.option("weight_decay", options.weight_decay());
  visitor.option("amsgrad", options.amsgrad());
  visitor.fixed("maximize", false);
  visitor.fixed("foreach", nullptr);
  visitor.fixed("capturable", false);
  visitor.fixed("differentiable", false);
  visitor.fixed("fused", nullptr);
  visitor.fixed("decoupled_weight_decay", Same<O, torch::optim::AdamWOptions>);
}

template <Same<torch::optim::RMSpropOptions> O, class V>
void visit_options(O& options, V& visitor) {
  visitor.option("lr", options.lr());
  visitor.option("momentum", options.momentum());
  visitor.option("alpha", options.alpha());
  visitor.option("eps", options.eps());
  visitor.option("centered", options.centered());
  visitor.option("weight_decay", options.weight_decay());
  visitor.fixed("capturable", false);
  visitor.fixed("foreach", nullptr);
  visitor.fixed("maximize", false);
  visitor.fixed("differentiable", false);
}

template <Same<torch::optim::AdagradOptions> O, class V>
void visit_options(O& options, V& visitor) {
  visitor.option("lr", options.lr());
  visitor.option("lr_decay", options.lr_decay());
  visitor.option("eps", options.eps());
  visitor.option("weight_decay", options.weight_decay());
  visitor.option("initial_accumulator_value", options.initial_accumulator_value());
  visitor.fixed("foreach", nullptr);
  visitor.fixed("maximize", false);
  visitor.fixed("differentiable", false);
  visitor.fixed("fused", nullptr);
}

template <Same<torch::optim::LBFGSOptions> O, class V>
void visit_options(O& options, V& visitor) {
  visitor.option("lr", options.lr());
  visitor.option("max_iter", options.max_iter());
  visitor.option("max_eval", options.max_eval());
  visitor.option("tolerance_grad", options.tolerance_grad());
  visitor.option("tolerance_change", options.tolerance_change());
  visitor.option("history_size", options.history_size());
  visitor.option("line_search_fn", options.line_search_fn());
}

template <Same<torch::optim::SGDParamState> S, class V>
void visit_state(S& state, V& visitor) {
  visitor.tensor("momentum_buffer", state.momentum_buffer(), Need::optional);
}

template <class S, class V>
  requires Same<S, torch::optim::AdamParamState> || Same<S, torch::optim::AdamWParamState>
void visit_state(S& state, V& visitor) {
  visitor.counter("step", state.step());
  visitor.tensor("exp_avg", state.exp_avg(), Need::required);
  visitor.tensor("exp_avg_sq", state.exp_avg_sq(), Need::required);
  visitor.tensor("max_exp_avg_sq", state.max_exp_avg_sq(), Need::optional);
}

template <Same<torch::optim::RMSpropParamState> S, class V>
void visit_state(S& state, V& visitor) {
  visitor.counter("step", state.step());
  visitor.tensor("square_avg", state.square_avg(), Need::required);
  visitor.tensor("momentum_buffer", state.momentum_buffer(), Need::optional);
  visitor.tensor("grad_avg", state.grad_avg(), Need::optional);
}

template <Same<torch::optim::AdagradParamState> S, class V>
void visit_state(S& state, V& visitor) {
  visitor.counter("step", state.step());
  visitor.tensor("sum", state.sum(), Need::required);
}

/// One state for all parameters, under the first; its tensors are as long as all parameters together.
template <Same<torch::optim::LBFGSParamState> S, class V>
void visit_state(S& state, V& visitor) {
  visitor.integer("func_evals", state.func_evals());
  visitor.integer("n_iter", state.n_iter());
  visitor.number("t", state.t());
  visitor.number("prev_loss", state.prev_loss());
  visitor.flat("d", state.d());
  visitor.scalar("H_diag", state.H_diag());
  visitor.flat("prev_flat_grad", state.prev_flat_grad());
  visitor.flats("old_dirs", state.old_dirs());
  visitor.flats("old_stps", state.old_stps());
  visitor.scalars("ro", state.ro());
  visitor.scalars("al", state.al());
}

/// Calls `use(kind)` with a value whose `Options` and `State` are the classes behind `options`; false for a class not known here.
template <class Options_, class State_>
struct OptimizerKind {
  using Options = Options_;
  using State = State_;
};

template <class Use>
bool with_optimizer_kind(const torch::optim::OptimizerOptions& options, Use&& use) {
  auto try_kind = [&]<class Kind>(Kind kind) {
    if (!dynamic_cast<const typename Kind::Options*>(&options)) return false;
    use(kind);
    return true;
  };
  using namespace torch::optim;
  return try_kind(OptimizerKind<SGDOptions, SGDParamState>{}) || try_kind(OptimizerKind<AdamWOptions, AdamWParamState>{}) ||
         try_kind(OptimizerKind<AdamOptions, AdamParamState>{}) || try_kind(OptimizerKind<RMSpropOptions, RMSpropParamState>{}) ||
         try_kind(OptimizerKind<AdagradOptions, AdagradParamState>{}) || try_kind(OptimizerKind<LBFGSOptions, LBFGSParamState>{});
}

}  // namespace treadle

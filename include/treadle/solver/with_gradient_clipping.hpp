#pragma once

#include <treadle/solver/build.hpp>
#include <treadle/solver/clipping.hpp>

#include <torch/optim/optimizer.h>

#include <memory>
#include <optional>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

namespace treadle {

/// The class that defines this `step`; for decltype.
template <class Optimizer>
std::type_identity<Optimizer> class_of_step(at::Tensor (Optimizer::*)(torch::optim::Optimizer::LossClosure));

/// Whether the `step` of `Optimizer` clips when it is asked to.
template <class Optimizer>
concept ClippingInItsStep = std::is_base_of_v<ClipsInStep<typename decltype(class_of_step(&Optimizer::step))::type>, Optimizer>;

/// `BaseOptimizer` with gradients clipped at the start of every `step`, over all groups together. Loop thread only.
/// A step that is left out because of a norm that is not finite returns an undefined tensor.
/// With a closure the gradients are clipped that are there when `step` is called, as in Detectron2.
template <class BaseOptimizer>
class WithGradientClipping : public BaseOptimizer, public ClippingOptimizer {
 public:
  /// `arguments` go to the constructor of `BaseOptimizer`. Throws ConfigError for clipping options out of range.
  template <class... Arguments>
  explicit WithGradientClipping(const GradientClippingOptions& clip, Arguments&&... arguments)
      : BaseOptimizer(std::forward<Arguments>(arguments)...), options_(clip), clip_(create_gradient_clipper(clip)) {}

  at::Tensor step(torch::optim::Optimizer::LossClosure closure = nullptr) override {
    last_norm_.reset();
    if constexpr (ClippingInItsStep<BaseOptimizer>) {
      // A closure makes other gradients than those that are to be clipped.
      if (options_.type == ClipType::full_model && !closure) {
        this->clip_next_step(options_);
        at::Tensor loss = BaseOptimizer::step();
        last_norm_ = this->take_norm();
        return loss;
      }
    }
    std::optional<at::Tensor> norm = clip_(all_parameters());
    at::Tensor loss;
    if (!norm || norm_allows_step(*norm, options_.non_finite)) loss = BaseOptimizer::step(std::move(closure));
    last_norm_ = std::move(norm);
    return loss;
  }

  const std::optional<at::Tensor>& last_norm() const noexcept override { return last_norm_; }

 private:
  std::vector<at::Tensor> all_parameters() {
    std::vector<at::Tensor> params;
    for (const auto& group : this->param_groups()) params.insert(params.end(), group.params().begin(), group.params().end());
    return params;
  }

  GradientClippingOptions options_;
  GradientClipper clip_;
  std::optional<at::Tensor> last_norm_;
};

/// A `BaseOptimizer` made of `arguments`, or a `WithGradientClipping<BaseOptimizer>` where `clip.enabled` asks for it. Throws
/// ConfigError for clipping options out of range.
template <class BaseOptimizer, class... Arguments>
std::unique_ptr<torch::optim::Optimizer> maybe_add_gradient_clipping(const GradientClippingOptions& clip,
                                                                     Arguments&&... arguments) {
  if (!clip.enabled) return std::make_unique<BaseOptimizer>(std::forward<Arguments>(arguments)...);
  return std::make_unique<WithGradientClipping<BaseOptimizer>>(clip, std::forward<Arguments>(arguments)...);
}

/// Registers `BaseOptimizer` under `name`, with and without clipping. `arguments(groups, options)` returns a std::tuple of what
/// its constructor takes.
template <class BaseOptimizer, class MakeArguments>
void register_optimizer(const std::string& name, MakeArguments make_arguments) {
  optimizers().add(name, [make_arguments](const std::vector<ParamGroup>& groups, const OptimizerOptions& options) {
    auto make = [&](auto&&... arguments) {
      return maybe_add_gradient_clipping<BaseOptimizer>(options.clip, std::forward<decltype(arguments)>(arguments)...);
    };
    return std::apply(make, make_arguments(groups, options));
  });
}

}  // namespace treadle

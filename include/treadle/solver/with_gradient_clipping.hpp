#pragma once

#include <treadle/solver/build.hpp>
#include <treadle/solver/group_info.hpp>

#include <torch/optim/optimizer.h>

#include <memory>
#include <optional>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

namespace treadle {

/// `BaseOptimizer` with gradients clipped at the start of every `step`, over all groups together. Loop thread only.
/// A step that is left out because of a norm that is not finite returns an undefined tensor.
/// With a closure the gradients are clipped that are there when `step` is called, as in Detectron2.
template <class BaseOptimizer>
class WithGradientClipping : public BaseOptimizer {
 public:
  /// `arguments` go to the constructor of `BaseOptimizer`. Throws ConfigError for clipping options out of range.
  template <class... Arguments>
  explicit WithGradientClipping(const GradientClippingOptions& clip, Arguments&&... arguments)
      : BaseOptimizer(std::forward<Arguments>(arguments)...), options_(clip), clip_(create_gradient_clipper(clip)) {}

  at::Tensor step(torch::optim::Optimizer::LossClosure closure = nullptr) override {
    std::vector<at::Tensor> params;
    for (const auto& group : this->param_groups()) params.insert(params.end(), group.params().begin(), group.params().end());
    if (constexpr bool own = std::is_base_of_v<GroupInfoHolder, BaseOptimizer>; own && options_.type == ClipType::full_model) {
      last_norm_ = measure(params);
    } else {
      last_norm_ = clip_(params);
    }
    if (last_norm_ && !norm_allows_step(*last_norm_, options_.non_finite)) return {};
    return BaseOptimizer::step(std::move(closure));
  }

  /// The norm that the last step clipped; nothing before the first step and when clipping by value.
  const std::optional<at::Tensor>& last_norm() const noexcept { return last_norm_; }

 private:
  /// For Treadle's own optimizers, which clip in the pass that they make over the gradients anyway.
  at::Tensor measure(const std::vector<at::Tensor>& params) {
    std::vector<at::Tensor> grads;
    grads.reserve(params.size());
    for (const at::Tensor& param : params) grads.push_back(param.grad());
    at::Tensor norm = total_norm(grads, options_.norm_type);
    if constexpr (std::is_base_of_v<GroupInfoHolder, BaseOptimizer>) {
      if (norm_allows_step(norm, options_.non_finite)) this->set_clip_factor(clip_factor(options_.clip_value, norm));
    }
    return norm;
  }

  GradientClippingOptions options_;
  GradientClipper clip_;
  std::optional<at::Tensor> last_norm_;
};

/// Registers `BaseOptimizer` under `name`, with and without clipping. `arguments(groups, options)` returns a std::tuple of what
/// its constructor takes.
template <class BaseOptimizer, class MakeArguments>
void register_optimizer(const std::string& name, MakeArguments make_arguments) {
  optimizers().add(name, [make_arguments](const std::vector<ParamGroup>& groups, const OptimizerOptions& options) {
    auto make = [&]<class Optimizer, class... Extra>(std::type_identity<Optimizer>, const Extra&... extra) {
      auto construct = [&](auto&&... arguments) -> std::unique_ptr<torch::optim::Optimizer> {
        return std::make_unique<Optimizer>(extra..., std::forward<decltype(arguments)>(arguments)...);
      };
      return std::apply(construct, make_arguments(groups, options));
    };
    return options.clip.enabled ? make(std::type_identity<WithGradientClipping<BaseOptimizer>>{}, options.clip)
                                : make(std::type_identity<BaseOptimizer>{});
  });
}

}  // namespace treadle

#pragma once

#include <treadle/solver/build.hpp>

#include <torch/optim/optimizer.h>

#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

namespace treadle {

/// `BaseOptimizer` with gradients clipped at the start of every `step`, over all groups together. Loop thread only.
/// With a closure the gradients are clipped that are there when `step` is called, as in Detectron2.
template <class BaseOptimizer>
class WithGradientClipping : public BaseOptimizer {
 public:
  /// `arguments` go to the constructor of `BaseOptimizer`. Throws ConfigError for clipping options out of range.
  template <class... Arguments>
  explicit WithGradientClipping(const GradientClippingOptions& clip, Arguments&&... arguments)
      : BaseOptimizer(std::forward<Arguments>(arguments)...), clip_(create_gradient_clipper(clip)) {}

  at::Tensor step(torch::optim::Optimizer::LossClosure closure = nullptr) override {
    std::vector<at::Tensor> params;
    for (const auto& group : this->param_groups()) params.insert(params.end(), group.params().begin(), group.params().end());
    last_norm_ = clip_(params);
    return BaseOptimizer::step(std::move(closure));
  }

  /// The norm that the last step clipped; nothing before the first step and when clipping by value.
  const std::optional<at::Tensor>& last_norm() const noexcept { return last_norm_; }

 private:
  GradientClipper clip_;
  std::optional<at::Tensor> last_norm_;
};

/// Registers `BaseOptimizer` under `name`, with and without clipping. `arguments(groups, options)` returns a std::tuple of what its
/// constructor takes.
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

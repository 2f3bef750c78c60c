#include <treadle/base/errors.hpp>
#include <treadle/solver/adamw.hpp>
#include <treadle/solver/build.hpp>
#include <treadle/solver/sgd.hpp>
#include <treadle/solver/with_gradient_clipping.hpp>

#include <fmt/format.h>

#include <cmath>
#include <utility>

namespace treadle {
namespace {

void require(bool legal, const char* field, const char* range, double found) {
  if (!legal) {
    throw ConfigError(fmt::format("OptimizerOptions.{} must be {}; it is {}", field, range, found),
                      std::string("OptimizerOptions.") + field);
  }
}

std::unique_ptr<torch::optim::Optimizer> make_sgd(const std::vector<ParamGroup>& groups, const OptimizerOptions& options) {
  return maybe_add_gradient_clipping<Sgd>(options.clip, groups,
                                          SgdOptions{.lr = options.base_lr,
                                                     .momentum = options.momentum,
                                                     .weight_decay = options.weight_decay,
                                                     .nesterov = options.nesterov,
                                                     .fused = options.fused});
}

AdamOptions adam_options(const OptimizerOptions& options) {
  return {.lr = options.base_lr,
          .beta1 = options.beta1,
          .beta2 = options.beta2,
          .eps = options.eps,
          .weight_decay = options.weight_decay,
          .amsgrad = options.amsgrad,
          .fused = options.fused};
}

std::unique_ptr<torch::optim::Optimizer> make_adamw(const std::vector<ParamGroup>& groups, const OptimizerOptions& options) {
  return maybe_add_gradient_clipping<AdamW>(options.clip, groups, adam_options(options));
}

std::unique_ptr<torch::optim::Optimizer> make_adam(const std::vector<ParamGroup>& groups, const OptimizerOptions& options) {
  return maybe_add_gradient_clipping<Adam>(options.clip, groups, adam_options(options));
}

}  // namespace

void validate(const OptimizerOptions& options) {
  require(options.base_lr >= 0 && std::isfinite(options.base_lr), "base_lr", "finite and at least 0", options.base_lr);
  require(options.weight_decay >= 0 && std::isfinite(options.weight_decay), "weight_decay", "finite and at least 0",
          options.weight_decay);
  require(options.momentum >= 0 && options.momentum <= 1, "momentum", "in [0, 1]", options.momentum);
  require(options.beta1 >= 0 && options.beta1 < 1, "beta1", "in [0, 1)", options.beta1);
  require(options.beta2 >= 0 && options.beta2 < 1, "beta2", "in [0, 1)", options.beta2);
  require(options.eps >= 0 && std::isfinite(options.eps), "eps", "finite and at least 0", options.eps);
  if (options.clip.enabled) validate(options.clip);
}

Registry<OptimizerFactory>& optimizers() {
  static const auto registry = [] {
    auto made = std::make_unique<Registry<OptimizerFactory>>("optimizer");
    made->add("SGD", make_sgd);
    made->add("ADAMW", make_adamw);
    made->add("ADAM", make_adam);
    return made;
  }();
  return *registry;
}

std::unique_ptr<torch::optim::Optimizer> build_optimizer(const OptimizerOptions& options, const torch::nn::Module& model) {
  const OptimizerFactory& factory = optimizers().get(options.name);
  validate(options);
  ParamGroupOptions group_options = options.groups;
  group_options.base_lr = options.base_lr;
  group_options.weight_decay_norm = options.weight_decay_norm;
  group_options.weight_decay_bias = options.weight_decay_bias;
  group_options.bias_lr_factor = options.bias_lr_factor;
  return factory(get_default_optimizer_params(model, group_options), options);
}

}  // namespace treadle

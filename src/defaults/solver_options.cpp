// What the config says to the room `solver`.
#include <defaults/validate_as.hpp>
#include <treadle/base/errors.hpp>
#include <treadle/defaults/options.hpp>

namespace treadle {
namespace {

GradientClippingOptions clipping_options(const Config& config) {
  GradientClippingOptions clip;
  clip.enabled = config.get_bool("SOLVER.CLIP_GRADIENTS.ENABLED");
  try {
    clip.type = clip_type_from_string(config.get_string("SOLVER.CLIP_GRADIENTS.CLIP_TYPE"));
  } catch (const ConfigError& error) {
    config.fail("SOLVER.CLIP_GRADIENTS.CLIP_TYPE", error.what());
  }
  clip.clip_value = config.get_double("SOLVER.CLIP_GRADIENTS.CLIP_VALUE");
  clip.norm_type = config.get_double("SOLVER.CLIP_GRADIENTS.NORM_TYPE");
  return clip;
}

WarmupMethod warmup_method(const Config& config) {
  const std::string& name = config.get_string("SOLVER.WARMUP_METHOD");
  if (name == "linear") return WarmupMethod::linear;
  if (name == "constant") return WarmupMethod::constant;
  config.fail("SOLVER.WARMUP_METHOD", "expected \"linear\" or \"constant\"");
}

}  // namespace

OptimizerOptions optimizer_options(const Config& config) {
  OptimizerOptions options;
  options.name = config.get_string("TREADLE.SOLVER.OPTIMIZER");
  require_registered(config, "TREADLE.SOLVER.OPTIMIZER", optimizers());
  options.base_lr = config.get_double("SOLVER.BASE_LR");
  options.weight_decay = config.get_double("SOLVER.WEIGHT_DECAY");
  options.weight_decay_norm = config.get_optional_double("SOLVER.WEIGHT_DECAY_NORM");
  options.weight_decay_bias = config.get_optional_double("SOLVER.WEIGHT_DECAY_BIAS");
  options.bias_lr_factor = config.get_double("SOLVER.BIAS_LR_FACTOR");
  options.momentum = config.get_double("SOLVER.MOMENTUM");
  options.nesterov = config.get_bool("SOLVER.NESTEROV");
  options.fused = config.get_bool("TREADLE.SOLVER.FUSED");
  options.clip = clipping_options(config);
  with_keys(config,
            {{"OptimizerOptions.base_lr", "SOLVER.BASE_LR"},
             {"OptimizerOptions.momentum", "SOLVER.MOMENTUM"},
             {"OptimizerOptions.nesterov", "SOLVER.NESTEROV"},
             {"OptimizerOptions.weight_decay", "SOLVER.WEIGHT_DECAY"},
             {"OptimizerOptions.weight_decay_norm", "SOLVER.WEIGHT_DECAY_NORM"},
             {"OptimizerOptions.weight_decay_bias", "SOLVER.WEIGHT_DECAY_BIAS"},
             {"OptimizerOptions.bias_lr_factor", "SOLVER.BIAS_LR_FACTOR"},
             {"GradientClippingOptions.clip_value", "SOLVER.CLIP_GRADIENTS.CLIP_VALUE"},
             {"GradientClippingOptions.norm_type", "SOLVER.CLIP_GRADIENTS.NORM_TYPE"}},
            [&] { validate(options); });
  return options;
}

LRSchedulerOptions lr_scheduler_options(const Config& config) {
  LRSchedulerOptions options;
  options.name = config.get_string("SOLVER.LR_SCHEDULER_NAME");
  require_registered(config, "SOLVER.LR_SCHEDULER_NAME", param_schedulers());
  options.max_iter = config.get_int("SOLVER.MAX_ITER");
  if (options.max_iter < 1) config.fail("SOLVER.MAX_ITER", "at least 1 is needed");
  options.base_lr = config.get_double("SOLVER.BASE_LR");
  options.base_lr_end = config.get_double("SOLVER.BASE_LR_END");
  options.gamma = config.get_double("SOLVER.GAMMA");
  options.steps = config.get_doubles("SOLVER.STEPS");
  options.num_decays = config.get_int("SOLVER.NUM_DECAYS");
  options.warmup_iters = config.get_int("SOLVER.WARMUP_ITERS");
  options.warmup_factor = config.get_double("SOLVER.WARMUP_FACTOR");
  options.warmup_method = warmup_method(config);
  options.rescale_interval = config.get_bool("SOLVER.RESCALE_INTERVAL");
  with_keys(config,
            {{"LRSchedulerOptions.base_lr", "SOLVER.BASE_LR"},
             {"LRSchedulerOptions.base_lr_end", "SOLVER.BASE_LR_END"},
             {"LRSchedulerOptions.gamma", "SOLVER.GAMMA"},
             {"LRSchedulerOptions.steps", "SOLVER.STEPS"},
             {"LRSchedulerOptions.num_decays", "SOLVER.NUM_DECAYS"},
             {"LRSchedulerOptions.warmup_iters", "SOLVER.WARMUP_ITERS"},
             {"LRSchedulerOptions.warmup_factor", "SOLVER.WARMUP_FACTOR"},
             {"LRSchedulerOptions.rescale_interval", "SOLVER.RESCALE_INTERVAL"}},
            [&] { validate(options); });
  return options;
}

}  // namespace treadle

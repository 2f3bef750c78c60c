// What the config says to the room `solver`.
#include <defaults/validate_as.hpp>
#include <treadle/base/errors.hpp>
#include <treadle/base/log.hpp>
#include <treadle/base/value_view.hpp>
#include <treadle/checkpoint/file.hpp>
#include <treadle/defaults/options.hpp>

#include <fmt/format.h>

#include <filesystem>
#include <fstream>
#include <optional>
#include <string>

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
  clip.non_finite =
      choice<NonFiniteNorm>(config, "TREADLE.SOLVER.NON_FINITE_NORM",
                            {{"pass", NonFiniteNorm::pass}, {"error", NonFiniteNorm::error}, {"skip", NonFiniteNorm::skip}});
  return clip;
}

/// 0 when there is no run, or its last checkpoint does not say. One that cannot be read is no reason to give up: the run resumes
/// from another then.
std::int64_t saved_max_iter(const std::filesystem::path& folder) {
  std::ifstream tag(folder / "last_checkpoint");
  std::string name;
  if (!std::getline(tag, name) || name.empty()) return 0;
  try {
    const Value checkpoint = load_checkpoint_file(folder / name, {.read_tensors = false});
    const auto record = ValueView(checkpoint).find("treadle");
    const auto max_iter = record ? record->find("max_iter") : std::nullopt;
    return max_iter ? max_iter->as_int() : 0;
  } catch (const Error& problem) {
    log_warning(
        fmt::format("\"{}\" does not tell the SOLVER.MAX_ITER of the run that is resumed, so that of the config counts: {}",
                    (folder / name).string(), problem.what()));
    return 0;
  }
}

}  // namespace

ResumeSettings resume_settings(const Config& config) {
  return choice<ResumeSettings>(config, "TREADLE.SOLVER.RESUME",
                                {{"current", ResumeSettings::current}, {"saved", ResumeSettings::saved}});
}

void take_saved_max_iter(Config& config) {
  if (resume_settings(config) == ResumeSettings::current) return;
  const std::int64_t saved = saved_max_iter(config.get_string("OUTPUT_DIR"));
  const std::int64_t current = config.get_int("SOLVER.MAX_ITER");
  if (saved == 0 || saved == current) return;
  log_warning(fmt::format("SOLVER.MAX_ITER is {} in the run that is resumed: it counts instead of {}", saved, current));
  config.set("SOLVER.MAX_ITER", saved);
}

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
  options.warmup_method = choice<WarmupMethod>(config, "SOLVER.WARMUP_METHOD",
                                               {{"linear", WarmupMethod::linear}, {"constant", WarmupMethod::constant}});
  options.rescale_interval = config.get_bool("SOLVER.RESCALE_INTERVAL");
  options.resume = resume_settings(config);
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

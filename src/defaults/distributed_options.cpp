// What the config says about training with several processes.
#include <defaults/validate_as.hpp>
#include <treadle/defaults/options.hpp>
#include <treadle/engine/distributed_model.hpp>

namespace treadle {

DistributedOptions distributed_options(const Config& config) {
  const std::string section = "TREADLE.DISTRIBUTED.";
  DistributedOptions options;
  options.gradients.compression = choice<GradientCompression>(
      config, section + "GRADIENT_COMPRESSION",
      {{"none", GradientCompression::none}, {"fp16", GradientCompression::float16}, {"bf16", GradientCompression::bfloat16}});
  options.gradients.find_unused_parameters = config.get_bool(section + "FIND_UNUSED_PARAMETERS");
  options.gradients.gradient_as_bucket_view = config.get_bool(section + "GRADIENT_AS_BUCKET_VIEW");
  options.gradients.bucket_cap_mb = config.get_double(section + "BUCKET_CAP_MB");
  options.gradients.first_bucket_cap_mb = config.get_double(section + "FIRST_BUCKET_CAP_MB");
  options.broadcast_buffers = config.get_bool(section + "BROADCAST_BUFFERS");
  with_keys(config,
            {{"GradientOptions.bucket_cap_mb", section + "BUCKET_CAP_MB"},
             {"GradientOptions.first_bucket_cap_mb", section + "FIRST_BUCKET_CAP_MB"}},
            [&] { validate(options.gradients); });
  return options;
}

}  // namespace treadle

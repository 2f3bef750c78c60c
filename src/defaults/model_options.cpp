// What the config says to the room `models`.
#include <defaults/validate_as.hpp>
#include <treadle/base/device.hpp>
#include <treadle/base/errors.hpp>
#include <treadle/defaults/options.hpp>
#include <treadle/models/image_classifier.hpp>
#include <treadle/models/scripted_model.hpp>

namespace treadle {

namespace {

ResNetOptions resnet_options(const Config& config) {
  const std::string section = "MODEL.RESNETS.";
  for (const Value& deformable : config.at(section + "DEFORM_ON_PER_STAGE").as_list()) {
    if (deformable.is(Value::Type::boolean) && deformable.as_bool())
      config.fail(section + "DEFORM_ON_PER_STAGE", "this version has no deformable convolutions; set all to False");
  }
  return {.depth = config.get_int(section + "DEPTH"),
          .norm = config.get_string(section + "NORM"),
          .freeze_at = config.get_int("MODEL.BACKBONE.FREEZE_AT"),
          .stem_out_channels = config.get_int(section + "STEM_OUT_CHANNELS"),
          .res2_out_channels = config.get_int(section + "RES2_OUT_CHANNELS"),
          .num_groups = config.get_int(section + "NUM_GROUPS"),
          .width_per_group = config.get_int(section + "WIDTH_PER_GROUP"),
          .stride_in_1x1 = config.get_bool(section + "STRIDE_IN_1X1"),
          .res5_dilation = config.get_int(section + "RES5_DILATION")};
}

}  // namespace

ScriptedModelOptions scripted_model_options(const Config& config) {
  const std::string section = "TREADLE.SCRIPTED.";
  ScriptedModelOptions options;
  options.file = config.get_string(section + "FILE");
  options.inputs = config.get_strings(section + "INPUTS");
  options.loss = choice<ScriptedModelOptions::Loss>(config, section + "LOSS",
                                                    {{"cross_entropy", ScriptedModelOptions::Loss::cross_entropy},
                                                     {"mse", ScriptedModelOptions::Loss::mse},
                                                     {"method", ScriptedModelOptions::Loss::method}});
  options.target = config.get_string(section + "TARGET");
  options.loss_method = config.get_string(section + "LOSS_METHOD");
  options.loss_inputs = config.get_strings(section + "LOSS_INPUTS");
  options.prediction = config.get_string(section + "PREDICTION");
  options.softmax = config.get_bool(section + "SOFTMAX");
  return options;
}

ImageClassifierOptions model_options(const Config& config) {
  ImageClassifierOptions options;
  options.backbone.name = config.get_string("MODEL.BACKBONE.NAME");
  options.backbone.in_channels = config.get_int("TREADLE.CLASSIFIER.IN_CHANNELS");
  options.backbone.image_size = config.get_int("TREADLE.CLASSIFIER.IMAGE_SIZE");
  options.backbone.num_classes = config.get_int("TREADLE.CLASSIFIER.NUM_CLASSES");
  options.backbone.dropout = config.get_double("TREADLE.CLASSIFIER.DROPOUT");
  options.backbone.hidden = config.get_ints("TREADLE.CLASSIFIER.HIDDEN");
  options.backbone.resnet = resnet_options(config);
  options.backbone.sync_batch_norm = config.get_bool("TREADLE.DISTRIBUTED.SYNC_BATCH_NORM");
  options.pixel_mean = config.get_doubles("MODEL.PIXEL_MEAN");
  options.pixel_std = config.get_doubles("MODEL.PIXEL_STD");
  return options;
}

CheckpointerOptions checkpointer_options(const Model& model, std::shared_ptr<Group> group) {
  return {.group = std::move(group), .non_persistent = model.non_persistent(), .upgrade = [&model](Dict state) {
            return model.upgrade_state(std::move(state));
          }};
}

c10::Device device_option(const Config& config, int local_rank) {
  const std::string& text = config.get_string("MODEL.DEVICE");
  if (text == "auto") return default_device(local_rank);
  try {
    return parse_device(text);
  } catch (const ConfigError& error) {
    config.fail("MODEL.DEVICE", error.what());
  }
}

}  // namespace treadle

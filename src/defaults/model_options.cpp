// What the config says to the room `models`.
#include <treadle/base/device.hpp>
#include <treadle/base/errors.hpp>
#include <treadle/defaults/options.hpp>
#include <treadle/models/image_classifier.hpp>

namespace treadle {

ImageClassifierOptions model_options(const Config& config) {
  ImageClassifierOptions options;
  options.backbone.name = config.get_string("MODEL.BACKBONE.NAME");
  options.backbone.in_channels = config.get_int("TREADLE.CLASSIFIER.IN_CHANNELS");
  options.backbone.image_size = config.get_int("TREADLE.CLASSIFIER.IMAGE_SIZE");
  options.backbone.num_classes = config.get_int("TREADLE.CLASSIFIER.NUM_CLASSES");
  options.backbone.dropout = config.get_double("TREADLE.CLASSIFIER.DROPOUT");
  options.pixel_mean = config.get_doubles("MODEL.PIXEL_MEAN");
  options.pixel_std = config.get_doubles("MODEL.PIXEL_STD");
  return options;
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

#include <treadle/base/errors.hpp>
#include <treadle/base/module_state.hpp>
#include <treadle/defaults/default_predictor.hpp>
#include <treadle/defaults/options.hpp>
#include <treadle/image/image.hpp>
#include <treadle/models/model.hpp>

#include <c10/core/GradMode.h>
#include <fmt/format.h>

namespace treadle {
DefaultPredictor::DefaultPredictor(const Config& config, const Builders& builders)
    : device_(device_option(config, 0)),
      channels_(static_cast<std::int64_t>(config.get_doubles("MODEL.PIXEL_MEAN").size())),
      reversed_(dataset_options(config).mode == ColourMode::bgr),
      resize_(test_resize(config)) {
  const std::string& weights = config.get_string("MODEL.WEIGHTS");
  if (weights.empty()) throw ConfigError("there is nothing to predict with: set MODEL.WEIGHTS to a checkpoint", "MODEL.WEIGHTS");
  model_ = builders.model(config);
  model_->to(device_);
  DetectionCheckpointer(*model_, {}, checkpointer_options(*model_, nullptr)).resume_or_load(weights, /*resume=*/false);
  set_training(*model_, false);
  const auto names = config.get_strings("DATASETS.TEST");
  if (names.empty()) return;
  if (dataset_catalog().contains(names.front())) metadata_ = dataset_catalog().get(names.front()).metadata;
  metadata_.class_names = class_names_of(names.front(), dataset_options(config));
}

DefaultPredictor::~DefaultPredictor() = default;

Dict DefaultPredictor::operator()(const Image& image) {
  if (image.channels() != channels_) {
    throw FormatError(fmt::format("the picture has {} channels, the model takes {}; choose with DecodeOptions.mode",
                                  image.channels(), channels_));
  }
  const c10::AutoGradMode no_gradients(false);
  at::Tensor pixels = image.pixels();
  if (reversed_) pixels = pixels.flip({2});
  Rng rng;  // one length to choose from: nothing is left to chance
  pixels = resize_({{"image", pixels.permute({2, 0, 1})}}, rng).at("image").as_tensor();
  pixels = pixels.unsqueeze(0).contiguous().to(device_);
  const List predictions = model_->predict(
      Batch(Dict{{"image", std::move(pixels)}, {"height", List{image.height()}}, {"width", List{image.width()}}}));
  return predictions.at(0).as_dict();
}

}  // namespace treadle

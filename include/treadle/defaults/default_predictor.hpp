#pragma once

#include <treadle/config/config.hpp>
#include <treadle/data/dataset_catalog.hpp>
#include <treadle/data/transforms.hpp>
#include <treadle/defaults/default_trainer.hpp>

#include <memory>

namespace treadle {

class Image;

/// The model of a config with the weights of MODEL.WEIGHTS, in evaluation mode, for one picture at a time. For demonstrations: no
/// batches. Loop thread only.
class DefaultPredictor {
 public:
  /// Throws ConfigError without MODEL.WEIGHTS, for INPUT.FORMAT other than "RGB", "BGR" and "L", and as the builder and the
  /// checkpoint do. `builders.model` makes the model.
  explicit DefaultPredictor(const Config& config, const Builders& builders = default_builders());
  ~DefaultPredictor();

  /// What the model predicts for `image`, resized as INPUT.MIN_SIZE_TEST and MAX_SIZE_TEST say: the batch of one holds "image"
  /// (uint8, [1, channels, height, width], channels in the order of INPUT.FORMAT), and the "height" and "width" that `image` has.
  /// FormatError when the picture has not as many channels as MODEL.PIXEL_MEAN.
  Dict operator()(const Image& image);

  Model& model() noexcept { return *model_; }
  /// Of the first data set in DATASETS.TEST; empty when there is none, or none of that name.
  const DatasetMetadata& metadata() const noexcept { return metadata_; }

 private:
  std::shared_ptr<Model> model_;
  DatasetMetadata metadata_;
  c10::Device device_;
  std::int64_t channels_;
  bool reversed_;
  Transform resize_;
};

}  // namespace treadle

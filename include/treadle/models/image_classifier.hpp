#pragma once

#include <treadle/models/model.hpp>
#include <treadle/models/resnet.hpp>

#include <functional>
#include <memory>
#include <vector>

namespace treadle {

/// What a backbone is built from. Which fields count depends on the backbone.
struct BackboneOptions {
  std::string name = "SmallCnn";  ///< a registered backbone
  std::int64_t in_channels = 1;   ///< of the images, at least 1
  std::int64_t image_size = 28;   ///< height and width in pixels, at least 4
  std::int64_t num_classes = 10;  ///< outputs, at least 2
  double dropout = 0.25;          ///< probability in [0, 1) of zeroing an activation of the hidden layer; SmallCnn, MLP
  std::vector<std::int64_t> hidden = {128};  ///< widths of the hidden layers of MLP, each at least 1
  ResNetOptions resnet{};                    ///< ResNet
  bool sync_batch_norm = false;              ///< the norm "SyncBN" wherever it would be "BN"; SmallCnn and ResNet
};
void validate(const BackboneOptions& options);

struct ImageClassifierOptions {
  BackboneOptions backbone{};
  /// Per channel, on the scale 0…255: the network sees (image - mean) / std.
  std::vector<double> pixel_mean = {127.5};
  std::vector<double> pixel_std = {127.5};
};
/// Throws ConfigError that names the field and its range.
void validate(const ImageClassifierOptions& options);

/// Classifies images. Loop thread only.
///
/// Reads "image" (uint8 or float on the scale 0…255: [N, C, H, W], or a List of [C, H, W] in different sizes) and, for losses,
/// "label" (int64, [N]). Losses: {"loss_cls": mean cross entropy}; images of different sizes are padded with zeros at the right
/// and the bottom once they are normalized, as in Detectron2's ImageList. Predictions: {"scores": probabilities, [num_classes]}
/// per sample; images of different sizes go through the backbone apart, so that an image's scores are those it has alone. Its
/// parameters are those of its `backbone`.
class ImageClassifier final : public Model {
 public:
  explicit ImageClassifier(const ImageClassifierOptions& options);
  LossDict losses(const Batch& batch) override;
  List predict(const Batch& batch) override;
  /// The pixel statistics come from the config, not from a checkpoint.
  std::vector<std::string> non_persistent() const override { return {"pixel_mean", "pixel_std"}; }
  /// Weights of torchvision's residual networks, and of Detectron2's with older batch norms.
  Dict upgrade_state(Dict state) const override;

 private:
  at::Tensor logits(const Batch& batch);
  at::Tensor normalized(const at::Tensor& images) const;
  at::Tensor padded(const List& images) const;
  List predictions_of(const at::Tensor& images);

  std::function<at::Tensor(const at::Tensor&)> forward_;
  at::Tensor pixel_mean_;
  at::Tensor pixel_std_;
};

}  // namespace treadle

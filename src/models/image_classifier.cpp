#include <treadle/base/errors.hpp>
#include <treadle/models/frozen_batch_norm.hpp>
#include <treadle/models/model_registry.hpp>

#include <ATen/ops/cross_entropy_loss.h>
#include <ATen/ops/tensor.h>
#include <fmt/format.h>

namespace treadle {
namespace {

void require(bool holds, const std::string& field, const std::string& range) {
  if (!holds) throw ConfigError(fmt::format("{} must be {}", field, range), field);
}

at::Tensor per_channel(const std::vector<double>& values) {
  return at::tensor(values, at::kFloat).view({1, static_cast<std::int64_t>(values.size()), 1, 1});
}

}  // namespace

void validate(const BackboneOptions& options) {
  require(options.in_channels >= 1, "BackboneOptions.in_channels", "at least 1");
  require(options.image_size >= 4, "BackboneOptions.image_size", "at least 4");
  require(options.num_classes >= 2, "BackboneOptions.num_classes", "at least 2");
  require(options.dropout >= 0 && options.dropout < 1, "BackboneOptions.dropout", "in [0, 1)");
  for (std::int64_t width : options.hidden) require(width >= 1, "BackboneOptions.hidden", "numbers of at least 1");
}

void validate(const ImageClassifierOptions& options) {
  validate(options.backbone);
  const auto channels = static_cast<std::size_t>(options.backbone.in_channels);
  require(options.pixel_mean.size() == channels, "ImageClassifierOptions.pixel_mean",
          fmt::format("{} numbers, one per channel", channels));
  require(options.pixel_std.size() == channels, "ImageClassifierOptions.pixel_std",
          fmt::format("{} numbers, one per channel", channels));
  for (double deviation : options.pixel_std) require(deviation > 0, "ImageClassifierOptions.pixel_std", "above 0");
}

ImageClassifier::ImageClassifier(const ImageClassifierOptions& options) : Model("ImageClassifier") {
  validate(options);
  Backbone backbone = backbone_registry().get(options.backbone.name)(options.backbone);
  register_module("backbone", std::move(backbone.module));
  forward_ = std::move(backbone.forward);
  pixel_mean_ = register_buffer("pixel_mean", per_channel(options.pixel_mean));
  pixel_std_ = register_buffer("pixel_std", per_channel(options.pixel_std));
}

at::Tensor ImageClassifier::logits(const Batch& batch) {
  const at::Tensor& image = batch.tensor("image");
  if (image.dim() != 4 || image.size(1) != pixel_mean_.size(1)) {
    throw FormatError(
        fmt::format("the field \"image\" must have the shape [N, {}, H, W], found {}", pixel_mean_.size(1), describe(image)));
  }
  return forward_((image.to(at::kFloat) - pixel_mean_) / pixel_std_);
}

LossDict ImageClassifier::losses(const Batch& batch) {
  const at::Tensor& label = batch.tensor("label");
  return {{"loss_cls", at::cross_entropy_loss(logits(batch), label)}};
}

List ImageClassifier::predict(const Batch& batch) {
  const at::Tensor scores = logits(batch).softmax(1);
  List predictions;
  predictions.reserve(static_cast<std::size_t>(scores.size(0)));
  for (at::Tensor& row : scores.unbind(0)) predictions.push_back(Dict{{"scores", std::move(row)}});
  return predictions;
}

Dict ImageClassifier::upgrade_state(Dict state) const {
  return upgrade_batch_norms(*this, rename_torchvision_resnet(std::move(state), "backbone."));
}

}  // namespace treadle

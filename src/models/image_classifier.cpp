#include <treadle/base/errors.hpp>
#include <treadle/models/frozen_batch_norm.hpp>
#include <treadle/models/model_registry.hpp>

#include <ATen/ops/cross_entropy_loss.h>
#include <ATen/ops/tensor.h>
#include <ATen/ops/zeros.h>
#include <fmt/format.h>

#include <algorithm>
#include <map>

namespace treadle {
namespace {

void require(bool holds, const std::string& field, const std::string& range) {
  if (!holds) throw ConfigError(fmt::format("{} must be {}", field, range), field);
}

at::Tensor per_channel(const std::vector<double>& values) {
  return at::tensor(values, at::kFloat).view({1, static_cast<std::int64_t>(values.size()), 1, 1});
}

/// Throws for the first label of `batch` that is no class.
void refuse_label(const Batch& batch, std::int64_t classes) {
  const at::Tensor labels = batch.tensor("label").cpu().to(at::kLong).contiguous();
  for (std::int64_t i = 0; i < labels.numel(); ++i) {
    const std::int64_t label = labels.const_data_ptr<std::int64_t>()[i];
    if (label >= 0 && label < classes) continue;
    const std::string sample =
        batch.ids().empty() ? fmt::format("{} of the batch", i) : fmt::format("{}", batch.ids()[static_cast<std::size_t>(i)]);
    throw FormatError(fmt::format("the label {} of sample {} is not among the {} classes of the model", label, sample, classes));
  }
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

at::Tensor ImageClassifier::normalized(const at::Tensor& images) const {
  if (images.dim() != 4 || images.size(1) != pixel_mean_.size(1)) {
    throw FormatError(fmt::format("the field \"image\" must have the shape [N, {0}, H, W], or hold images [{0}, H, W]; found {1}",
                                  pixel_mean_.size(1), describe(images)));
  }
  return (images.to(at::kFloat) - pixel_mean_) / pixel_std_;
}

/// Each in the upper left corner of as much space as the highest and the widest take.
at::Tensor ImageClassifier::padded(const List& images) const {
  std::vector<at::Tensor> parts;
  std::int64_t height = 0, width = 0;
  for (const Value& image : images) {
    parts.push_back(normalized(image.as_tensor().unsqueeze(0)));
    height = std::max(height, parts.back().size(2));
    width = std::max(width, parts.back().size(3));
  }
  const auto count = static_cast<std::int64_t>(parts.size());
  at::Tensor all = at::zeros({count, pixel_mean_.size(1), height, width}, pixel_mean_.options());
  for (std::int64_t i = 0; i < count; ++i) {
    const at::Tensor& part = parts[static_cast<std::size_t>(i)];
    all[i].slice(1, 0, part.size(2)).slice(2, 0, part.size(3)).copy_(part[0]);
  }
  return all;
}

at::Tensor ImageClassifier::logits(const Batch& batch) {
  const Value& image = batch.field("image");
  return forward_(image.is(Value::Type::list) ? padded(image.as_list()) : normalized(batch.tensor("image")));
}

LossDict ImageClassifier::losses(const Batch& batch) {
  const at::Tensor& label = batch.tensor("label");
  const at::Tensor scores = logits(batch);
  try {
    return {{"loss_cls", at::cross_entropy_loss(scores, label)}};
  } catch (const c10::IndexError&) {
    refuse_label(batch, scores.size(1));
    throw;
  }
}

List ImageClassifier::predict(const Batch& batch) {
  const Value& image = batch.field("image");
  if (!image.is(Value::Type::list)) return predictions_of(normalized(batch.tensor("image")));
  const List& images = image.as_list();
  // What pads a smaller image would count in its scores, and make them depend on the others of the batch.
  std::map<std::vector<std::int64_t>, std::vector<std::size_t>> of_one_size;
  for (std::size_t i = 0; i < images.size(); ++i) of_one_size[images[i].as_tensor().sizes().vec()].push_back(i);
  List predictions;
  for (std::size_t i = 0; i < images.size(); ++i) predictions.push_back({});
  for (const auto& [size, places] : of_one_size) {
    List alike;
    for (const std::size_t place : places) alike.push_back(images[place]);
    List scores = predictions_of(padded(alike));
    for (std::size_t i = 0; i < places.size(); ++i) predictions[places[i]] = std::move(scores[i]);
  }
  return predictions;
}

List ImageClassifier::predictions_of(const at::Tensor& images) {
  const at::Tensor scores = forward_(images).softmax(1);
  List predictions;
  predictions.reserve(static_cast<std::size_t>(scores.size(0)));
  for (at::Tensor& row : scores.unbind(0)) predictions.push_back(Dict{{"scores", std::move(row)}});
  return predictions;
}

Dict ImageClassifier::upgrade_state(Dict state) const {
  return upgrade_batch_norms(*this, rename_torchvision_resnet(std::move(state), "backbone."));
}

}  // namespace treadle

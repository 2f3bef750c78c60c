#include <treadle/base/errors.hpp>
#include <treadle/base/module_state.hpp>
#include <treadle/base/rng.hpp>
#include <treadle/models.hpp>

#include <ATen/ops/randint.h>
#include <ATen/ops/tensor.h>
#include <c10/core/GradMode.h>
#include <gtest/gtest.h>

#include <cmath>

namespace treadle {
namespace {

Batch images(std::int64_t n, std::int64_t channels = 1) {
  return Batch(
      Dict{{"image", at::randint(0, 256, {n, channels, 28, 28}, at::kByte)}, {"label", at::randint(0, 10, {n}, at::kLong)}});
}

TEST(ImageClassifier, LossIsTheMeanCrossEntropyOfItsScores) {
  seed_everything(1);
  ImageClassifier model({});
  model.eval();
  const c10::InferenceMode inference;
  const Batch batch = images(6);
  const List predictions = model.predict(batch);
  ASSERT_EQ(predictions.size(), 6u);
  double expected = 0;
  for (std::size_t i = 0; i < 6; ++i) {
    const at::Tensor& scores = predictions[i].as_dict().at("scores").as_tensor();
    ASSERT_EQ(scores.numel(), 10);
    EXPECT_NEAR(scores.sum().item<double>(), 1, 1e-5);
    const auto label = batch.tensor("label")[static_cast<std::int64_t>(i)].item<std::int64_t>();
    expected -= std::log(scores[label].item<double>()) / 6;
  }
  const LossDict losses = model.losses(batch);
  ASSERT_EQ(losses.size(), 1u);
  EXPECT_EQ(losses[0].first, "loss_cls");
  EXPECT_NEAR(losses[0].second.item<double>(), expected, 1e-5);
}

TEST(ImageClassifier, PixelStatisticsAreApplied) {
  seed_everything(2);
  ImageClassifier plain({.pixel_mean = {0}, .pixel_std = {1}});
  seed_everything(2);
  ImageClassifier scaled({.pixel_mean = {100}, .pixel_std = {50}});
  plain.eval();
  scaled.eval();
  const c10::InferenceMode inference;
  const at::Tensor image = images(1).tensor("image").to(at::kFloat);
  const auto first = plain.predict(Batch(Dict{{"image", (image - 100) / 50}}))[0].as_dict().at("scores").as_tensor();
  const auto second = scaled.predict(Batch(Dict{{"image", image}}))[0].as_dict().at("scores").as_tensor();
  EXPECT_TRUE(first.equal(second));
}

TEST(ImageClassifier, OptionsShapeTheNetwork) {
  ImageClassifier model(
      {.backbone = {.in_channels = 3, .image_size = 16, .num_classes = 4}, .pixel_mean = {0, 0, 0}, .pixel_std = {1, 1, 1}});
  const Dict state = module_state_dict(model, model.non_persistent());
  EXPECT_EQ(state.at("backbone.conv1.weight").as_tensor().size(1), 3);
  EXPECT_EQ(state.at("backbone.hidden.weight").as_tensor().size(1), 64 * 4 * 4);
  EXPECT_EQ(state.at("backbone.output.bias").as_tensor().size(0), 4);
  EXPECT_FALSE(state.contains("pixel_mean"));
  EXPECT_FALSE(state.contains("backbone.conv1.bias"));
}

TEST(ImageClassifier, DropoutIsTheOptions) {
  const auto spread = [](double dropout) {
    seed_everything(3);
    ImageClassifier model({.backbone = {.dropout = dropout}});
    model.train();
    const Batch batch = images(8);
    const c10::InferenceMode inference;
    const auto first = model.losses(batch)[0].second, second = model.losses(batch)[0].second;
    return !first.equal(second);
  };
  EXPECT_FALSE(spread(0));
  EXPECT_TRUE(spread(0.5));
}

TEST(ImageClassifier, BadOptionsAndBatchesAreNamed) {
  EXPECT_THROW(validate(BackboneOptions{.in_channels = 0}), ConfigError);
  EXPECT_THROW(validate(BackboneOptions{.image_size = 3}), ConfigError);
  EXPECT_THROW(validate(BackboneOptions{.num_classes = 1}), ConfigError);
  EXPECT_THROW(validate(BackboneOptions{.dropout = 1}), ConfigError);
  EXPECT_THROW(validate(ImageClassifierOptions{.pixel_mean = {1, 2}}), ConfigError);
  EXPECT_THROW(validate(ImageClassifierOptions{.pixel_std = {0}}), ConfigError);
  EXPECT_THROW(ImageClassifier({.backbone = {.name = "SmalCnn"}}), ConfigError);
  ImageClassifier model({});
  EXPECT_THROW(model.losses(images(2, 3)), FormatError);
  EXPECT_THROW(model.losses(Batch(Dict{{"image", images(2).tensor("image")}})), FormatError);
}

TEST(ModelRegistry, KnowsTheBuiltIns) {
  EXPECT_TRUE(model_registry().contains("ImageClassifier"));
  EXPECT_TRUE(backbone_registry().contains("SmallCnn"));
  EXPECT_EQ(model_registry().get("ImageClassifier")({})->name(), "ImageClassifier");
  EXPECT_THROW(model_registry().get("ImageClasifier"), ConfigError);
}

}  // namespace
}  // namespace treadle

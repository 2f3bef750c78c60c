#include <treadle/base/errors.hpp>
#include <treadle/base/module_state.hpp>
#include <treadle/base/rng.hpp>
#include <treadle/models.hpp>

#include <ATen/ops/allclose.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/randint.h>
#include <ATen/ops/tensor.h>
#include <ATen/ops/zeros.h>
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

TEST(ImageClassifier, PadsImagesOfDifferentSizesForTheirLossAlone) {
  seed_everything(3);
  ImageClassifier model(
      {.backbone = {.name = "ResNet", .in_channels = 2, .num_classes = 3, .resnet = {.depth = 18, .res2_out_channels = 64}},
       .pixel_mean = {100, 50},
       .pixel_std = {2, 4}});
  model.eval();
  const c10::AutoGradMode no_gradients(false);
  const at::Tensor wide = at::randint(0, 256, {2, 33, 50}, at::kByte), high = at::randint(0, 256, {2, 48, 35}, at::kByte);
  const auto loss = [&](Value image) {
    return model.losses(Batch(Dict{{"image", std::move(image)}, {"label", at::tensor({0, 2}, at::kLong)}}))[0].second;
  };
  const auto scores = [&](Value image) {
    std::vector<at::Tensor> rows;
    for (const Value& row : model.predict(Batch(Dict{{"image", std::move(image)}})))
      rows.push_back(row.as_dict().at("scores").as_tensor());
    return rows;
  };
  // What is the mean of its channel becomes 0.
  at::Tensor both = at::empty({2, 2, 48, 50}, at::kByte);
  both.select(1, 0).fill_(100);
  both.select(1, 1).fill_(50);
  both[0].slice(1, 0, 33).copy_(wide);
  both[1].slice(2, 0, 35).copy_(high);
  EXPECT_TRUE(loss(List{wide, high}).equal(loss(both)));
  const std::vector<at::Tensor> together = scores(List{wide, high, wide});
  ASSERT_EQ(together.size(), 3U);
  EXPECT_TRUE(at::allclose(together[0], scores(List{wide})[0], 1e-5, 1e-6));
  EXPECT_TRUE(together[1].equal(scores(List{high})[0]));
  EXPECT_TRUE(together[2].equal(together[0]));
  EXPECT_FALSE(at::allclose(together[0], scores(both)[0], 1e-5, 1e-6));
  EXPECT_THROW(loss(List{wide, high.slice(0, 0, 1)}), FormatError);
  EXPECT_THROW(scores(List{wide, high.slice(0, 0, 1)}), FormatError);
}

TEST(ImageClassifier, ALabelThatIsNoClassIsSaidWithItsSample) {
  ImageClassifier model({.backbone = {.num_classes = 4}});
  const auto message = [&](std::vector<std::int64_t> labels, std::vector<std::int64_t> ids) -> std::string {
    Dict fields{{"image", at::zeros({3, 1, 28, 28})}, {"label", at::tensor(labels, at::kLong)}};
    try {
      model.losses(ids.empty() ? Batch(std::move(fields)) : Batch(std::move(fields), std::move(ids)));
    } catch (const FormatError& error) {
      return error.what();
    }
    return "";
  };
  EXPECT_EQ(message({0, 3, 1}, {7, 8, 9}), "");
  EXPECT_EQ(message({0, 3, 4}, {7, 8, 9}), "the label 4 of sample 9 is not among the 4 classes of the model");
  EXPECT_EQ(message({0, -1, 3}, {}), "the label -1 of sample 1 of the batch is not among the 4 classes of the model");
}

}  // namespace
}  // namespace treadle

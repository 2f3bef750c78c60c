#include <treadle/base/errors.hpp>
#include <treadle/data/transforms.hpp>

#include <ATen/ops/arange.h>
#include <ATen/ops/constant_pad_nd.h>
#include <ATen/ops/equal.h>
#include <ATen/ops/flip.h>
#include <ATen/ops/zeros.h>
#include <gtest/gtest.h>

#include <cmath>
#include <set>

namespace treadle {
namespace {

at::Tensor image(at::ScalarType type = at::kByte) { return at::arange(2 * 3 * 5).view({2, 3, 5}).to(type); }

at::Tensor run(const Transform& transform, const at::Tensor& input, std::uint64_t position = 0, std::string field = "image") {
  Rng rng(1, position);
  return transform({{field, input}}, rng).at(field).as_tensor();
}

TEST(RandomFlip, MirrorsEveryElementSize) {
  Transform always = random_flip({.probability = 1});
  for (at::ScalarType type : {at::kByte, at::kHalf, at::kFloat, at::kDouble, at::kComplexDouble}) {
    at::Tensor input = image(type), before = input.clone();
    EXPECT_TRUE(at::equal(run(always, input), at::flip(input, {2})));
    EXPECT_TRUE(at::equal(input, before)) << "the tensor it was given is left alone";
  }
  at::Tensor strided = image().transpose(1, 2);
  EXPECT_TRUE(at::equal(run(always, strided), at::flip(strided, {2})));
}

TEST(RandomFlip, FollowsTheProbability) {
  for (double probability : {0.0, 0.25, 1.0}) {
    Transform flip = random_flip({.probability = probability});
    int flipped = 0;
    for (std::uint64_t position = 0; position < 2000; ++position) flipped += !at::equal(run(flip, image(), position), image());
    EXPECT_NEAR(flipped / 2000.0, probability, 0.05);
  }
}

TEST(RandomFlip, WorksOnTheFieldItIsTold) {
  EXPECT_TRUE(at::equal(run(random_flip({.probability = 1, .field = "x"}), image(), 0, "x"), at::flip(image(), {2})));
  EXPECT_THROW(run(random_flip(), image(), 0, "x"), FormatError);
  EXPECT_THROW(run(random_flip(), at::zeros({3, 5})), FormatError);
  Rng rng;
  EXPECT_THROW(random_flip()({{"image", 3}}, rng), FormatError);
}

// Against padding the whole image and cutting the window out of it.
TEST(RandomCrop, CutsEveryWindowOfThePaddedImage) {
  for (at::ScalarType type : {at::kByte, at::kFloat}) {
    at::Tensor padded = at::constant_pad_nd(image(type), {2, 2, 2, 2}, 9);
    Transform crop = random_crop({.height = 4, .width = 2, .padding = 2, .fill = 9});
    std::set<std::pair<std::int64_t, std::int64_t>> seen;
    for (std::uint64_t position = 0; position < 1000; ++position) {
      Rng rng(1, position);
      const auto top = static_cast<std::int64_t>(rng.below(4)), left = static_cast<std::int64_t>(rng.below(8));
      at::Tensor expected = padded.slice(1, top, top + 4).slice(2, left, left + 2);
      ASSERT_TRUE(at::equal(run(crop, image(type), position), expected)) << top << " " << left;
      seen.insert({top, left});
    }
    EXPECT_EQ(seen.size(), 32u);
  }
}

TEST(RandomCrop, PaddingWiderThanTheWindow) {
  Transform crop = random_crop({.height = 1, .width = 1, .padding = 3, .fill = 200});
  std::set<int> values;
  for (std::uint64_t position = 0; position < 3000; ++position)
    values.insert(run(crop, image(), position).flatten()[0].item<int>());
  EXPECT_EQ(values.size(), 16u) << "all 15 pixels of the first channel, and the fill";
}

TEST(RandomCrop, RefusesImagesThatAreTooSmall) {
  EXPECT_THROW(run(random_crop({.height = 4, .width = 5}), image()), FormatError);
  EXPECT_NO_THROW(run(random_crop({.height = 3, .width = 5}), image()));
}

TEST(Normalize, PerChannelInFloat) {
  at::Tensor found = run(normalize({.mean = {1, 20}, .std = {2, 4}}), image());
  ASSERT_EQ(found.scalar_type(), at::kFloat);
  for (int channel = 0; channel < 2; ++channel) {
    for (int pixel = 0; pixel < 15; ++pixel) {
      const float value = static_cast<float>(channel * 15 + pixel);
      EXPECT_EQ(found.view({2, 15})[channel][pixel].item<float>(), channel == 0 ? (value - 1) / 2 : (value - 20) / 4);
    }
  }
  EXPECT_TRUE(at::equal(run(normalize({.mean = {3}, .std = {2}, .field = "x"}), image(), 0, "x"),
                        (image().to(at::kFloat).sub(3)).div(2)));
  EXPECT_THROW(run(normalize({.mean = {1, 2, 3}, .std = {1, 1, 1}}), image()), FormatError);
}

TEST(Compose, RunsInOrderWithOneRng) {
  Transform note = [](Sample sample, Rng& rng) {
    sample.set("drawn", rng.position());
    return sample;
  };
  Rng rng(3);
  Sample sample = compose({random_flip(), random_crop({.height = 2, .width = 2}), note})({{"image", image()}}, rng);
  EXPECT_EQ(sample.at("drawn").as_int(), 3) << "one number for the flip, two for the crop";
  EXPECT_EQ(sample.at("image").as_tensor().size(2), 2);
  EXPECT_THROW(compose({Transform()}), ConfigError);
}

TEST(Transforms, NameTheOptionThatIsOutOfRange) {
  auto key = [](auto options) {
    try {
      validate(options);
    } catch (const ConfigError& error) {
      return error.key();
    }
    return std::string("none");
  };
  EXPECT_EQ(key(RandomFlipOptions{.probability = 1.5}), "RandomFlipOptions.probability");
  EXPECT_EQ(key(RandomFlipOptions{.probability = std::nan("")}), "RandomFlipOptions.probability");
  EXPECT_EQ(key(RandomCropOptions{.height = 0, .width = 1}), "RandomCropOptions.height");
  EXPECT_EQ(key(RandomCropOptions{.height = 1, .width = 0}), "RandomCropOptions.width");
  EXPECT_EQ(key(RandomCropOptions{.height = 1, .width = 1, .padding = -1}), "RandomCropOptions.padding");
  EXPECT_EQ(key(NormalizeOptions{}), "NormalizeOptions.mean");
  EXPECT_EQ(key(NormalizeOptions{.mean = {1}, .std = {1, 2}}), "NormalizeOptions.mean");
  EXPECT_EQ(key(NormalizeOptions{.mean = {1}, .std = {0}}), "NormalizeOptions.std");
  EXPECT_EQ(key(NormalizeOptions{.mean = {INFINITY}, .std = {1}}), "NormalizeOptions.mean");
  EXPECT_EQ(key(RandomFlipOptions{}), "none");
}

}  // namespace
}  // namespace treadle

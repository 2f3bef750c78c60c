#include <treadle/base/errors.hpp>
#include <treadle/data/transforms.hpp>

#include <ATen/ops/arange.h>
#include <ATen/ops/constant_pad_nd.h>
#include <ATen/ops/equal.h>
#include <ATen/ops/flip.h>
#include <ATen/ops/full.h>
#include <ATen/ops/tensor.h>
#include <ATen/ops/zeros.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <array>
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

TEST(RandomFlip, MirrorsUpAndDownWithTheBoxes) {
  const Transform flip = random_flip({.probability = 1, .vertical = true});
  EXPECT_TRUE(at::equal(run(flip, image()), at::flip(image(), {1})));
  Rng rng;
  const Sample moved = flip({{"image", image()}, {"boxes", at::tensor({1, 0, 4, 2}).view({1, 4})}}, rng);
  EXPECT_TRUE(at::equal(moved.at("boxes").as_tensor(), at::tensor({1.0f, 1.0f, 4.0f, 3.0f}).view({1, 4})));
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

/// The heights and widths that a hundred draws give of an image of 10 x 20 pixels.
std::pair<std::set<std::int64_t>, std::set<std::int64_t>> part_sizes(const RandomPartOptions& options) {
  std::pair<std::set<std::int64_t>, std::set<std::int64_t>> sizes;
  for (std::uint64_t position = 0; position < 400; ++position) {
    const at::Tensor part = run(random_part(options), at::zeros({3, 10, 20}), position);
    EXPECT_EQ(part.size(0), 3);
    sizes.first.insert(part.size(1));
    sizes.second.insert(part.size(2));
  }
  return sizes;
}

TEST(RandomPart, SizesAreDetectron2s) {
  using Sizes = std::pair<std::set<std::int64_t>, std::set<std::int64_t>>;
  EXPECT_EQ(part_sizes({.kind = PartSize::relative, .size = {0.75, 0.3}}), (Sizes{{8}, {6}})) << "7.5 is rounded up";
  EXPECT_EQ(part_sizes({.kind = PartSize::relative, .size = {0.01, 0.01}}), (Sizes{{1}, {1}})) << "never without pixels";
  // Shares from 0.8 to 1: 8 … 10, and from 0.9 to 1: 18 … 20 pixels.
  EXPECT_EQ(part_sizes({.kind = PartSize::relative_range, .size = {0.8, 0.9}}), (Sizes{{8, 9, 10}, {18, 19, 20}}));
  EXPECT_EQ(part_sizes({.kind = PartSize::absolute, .size = {4, 30}}), (Sizes{{4}, {20}})) << "no more than there is";
  EXPECT_EQ(part_sizes({.kind = PartSize::absolute_range, .size = {8, 12}}), (Sizes{{8, 9, 10}, {8, 9, 10, 11, 12}}));
  EXPECT_EQ(part_sizes({.kind = PartSize::absolute_range, .size = {12, 12}}), (Sizes{{10}, {12}}));
}

// By its formulas: two sizes, then two places.
TEST(RandomPart, CutsWithTheBoxesAndDrawsFourNumbers) {
  const at::Tensor pixels = at::arange(2 * 10 * 20).view({2, 10, 20});
  std::set<std::int64_t> rows, columns;
  for (std::uint64_t position = 0; position < 300; ++position) {
    Rng rng(1, position), same(1, position);
    const Sample part =
        random_part({.size = {0.5, 0.25}})({{"image", pixels}, {"boxes", at::tensor({2, 1, 19, 9}).view({1, 4})}}, rng);
    const auto height = static_cast<std::int64_t>(10 * (0.5 + 0.5 * same.uniform()) + 0.5);
    const auto width = static_cast<std::int64_t>(20 * (0.25 + 0.75 * same.uniform()) + 0.5);
    const auto top = static_cast<std::int64_t>(same.below(static_cast<std::uint64_t>(10 - height + 1)));
    const auto left = static_cast<std::int64_t>(same.below(static_cast<std::uint64_t>(20 - width + 1)));
    ASSERT_TRUE(at::equal(part.at("image").as_tensor(), pixels.slice(1, top, top + height).slice(2, left, left + width)));
    const auto clamped = [](std::int64_t corner, std::int64_t offset, std::int64_t most) {
      return static_cast<float>(std::clamp<std::int64_t>(corner - offset, 0, most));
    };
    const at::Tensor box =
        at::tensor({clamped(2, left, width), clamped(1, top, height), clamped(19, left, width), clamped(9, top, height)});
    EXPECT_TRUE(at::equal(part.at("boxes").as_tensor()[0], box));
    EXPECT_EQ(rng.position(), 4u);
    rows.insert(top);
    columns.insert(left);
  }
  EXPECT_EQ(rows.size(), 6u) << "0 … 5";
  EXPECT_GT(columns.size(), 12u);
  EXPECT_THROW(run(random_part({}), at::zeros({3, 0, 4})), FormatError);
}

TEST(RandomPart, WorksOnTheFieldsItIsTold) {
  Rng rng;
  const Sample part = random_part({.kind = PartSize::absolute, .size = {1, 1}, .field = "x", .boxes = "b"})(
      {{"x", at::zeros({1, 5, 5})}, {"b", at::tensor({0, 0, 5, 5}).view({1, 4})}}, rng);
  EXPECT_EQ(part.at("x").as_tensor().numel(), 1);
  EXPECT_TRUE(at::equal(part.at("b").as_tensor(), at::tensor({0.0f, 0.0f, 1.0f, 1.0f}).view({1, 4})));
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

Sample with_boxes(const at::Tensor& pixels, const at::Tensor& boxes) { return {{"image", pixels}, {"boxes", boxes}}; }

/// An image that is 1 inside a box and 0 outside, of which the box can be found again.
at::Tensor painted(std::int64_t height, std::int64_t width, const std::vector<std::int64_t>& box) {
  at::Tensor pixels = at::zeros({1, height, width});
  pixels.slice(1, box[1], box[3]).slice(2, box[0], box[2]).fill_(1);
  return pixels;
}

at::Tensor found_box(const at::Tensor& pixels) {
  const at::Tensor rows = pixels[0].amax(1).nonzero(), columns = pixels[0].amax(0).nonzero();
  if (rows.numel() == 0) return at::zeros({4});
  return at::tensor(
      {columns.min().item<float>(), rows.min().item<float>(), columns.max().item<float>() + 1, rows.max().item<float>() + 1});
}

TEST(Boxes, FollowThePixels) {
  const std::vector<std::pair<const char*, Transform>> transforms = {
      {"flip", random_flip({.probability = 1})},
      {"crop", random_crop({.height = 9, .width = 8})},
      {"padded crop", random_crop({.height = 12, .width = 16, .padding = 3})},
  };
  for (const auto& [name, transform] : transforms) {
    for (std::uint64_t position = 0; position < 50; ++position) {
      const std::vector<std::int64_t> box{2, 3, 7, 5};
      Rng rng(2, position);
      const Sample moved = transform(with_boxes(painted(11, 13, box), at::tensor({2, 3, 7, 5, 0, 0, 13, 11}).view({2, 4})), rng);
      const at::Tensor& boxes = moved.at("boxes").as_tensor();
      ASSERT_EQ(boxes.sizes(), (at::IntArrayRef{2, 4}));
      EXPECT_EQ(boxes.scalar_type(), at::kFloat);
      const at::Tensor expected = found_box(moved.at("image").as_tensor());
      const bool visible = expected[2].item<float>() > 0;
      const at::Tensor first = boxes[0];
      const double area = first[2].sub(first[0]).mul(first[3].sub(first[1])).item<double>();
      EXPECT_EQ(area > 0, visible) << name << position;
      if (visible) {
        EXPECT_TRUE(at::equal(first, expected)) << name << position;
      }
    }
  }
  Rng rng;
  EXPECT_THROW(random_flip({.probability = 1})(with_boxes(image(), at::zeros({4})), rng), FormatError);
  Sample renamed = random_flip({.probability = 1, .boxes = "other"})(with_boxes(image(), at::zeros({4})), rng);
  EXPECT_TRUE(at::equal(renamed.at("boxes").as_tensor(), at::zeros({4}))) << "another field is meant";
}

// Detectron2's formula, with numbers worked out by hand.
TEST(ResizeShortestEdge, Sizes) {
  using S = ImageSize;
  EXPECT_EQ(shortest_edge_size({480, 640}, 800, 1333), (S{800, 1067})) << "1066.67";
  EXPECT_EQ(shortest_edge_size({640, 480}, 800, 1333), (S{1067, 800}));
  EXPECT_EQ(shortest_edge_size({100, 1000}, 800, 1333), (S{133, 1333})) << "the longer side decides: 133.3";
  EXPECT_EQ(shortest_edge_size({100, 1000}, 800, 0), (S{800, 8000}));
  EXPECT_EQ(shortest_edge_size({7, 7}, 3, 0), (S{3, 3}));
  EXPECT_EQ(shortest_edge_size({1, 5000}, 1, 100), (S{1, 100})) << "never without pixels";
}

/// Bilinear with antialiasing: a triangle as wide as the step, or as a pixel when that is wider.
std::vector<double> shrink_row(const std::vector<double>& row, int to) {
  const double scale = static_cast<double>(row.size()) / to, support = std::max(1.0, scale);
  std::vector<double> result;
  for (int i = 0; i < to; ++i) {
    const double center = (i + 0.5) * scale;
    double sum = 0, weights = 0;
    for (std::size_t j = 0; j < row.size(); ++j) {
      const double weight = std::max(0.0, 1 - std::abs((static_cast<double>(j) + 0.5 - center) / support));
      sum += weight * row[j];
      weights += weight;
    }
    result.push_back(sum / weights);
  }
  return result;
}

TEST(ResizeShortestEdge, PixelsAreThoseOfTheFormula) {
  for (const int to : {2, 3, 5, 12}) {
    const std::vector<double> row{0, 200, 30, 90, 255, 10, 70};
    const at::Tensor pixels = at::tensor(row, at::kFloat).view({1, 1, 7}).expand({2, 5, 7});
    // The height goes from 5 to as many rows as make the width `to`; all rows are equal.
    Rng rng;
    for (const at::ScalarType type : {at::kFloat, at::kByte, at::kInt}) {
      const Transform transform = resize_shortest_edge({.sizes = {5}, .max_size = to});
      const at::Tensor resized = transform({{"image", pixels.to(type)}}, rng).at("image").as_tensor();
      EXPECT_EQ(resized.scalar_type(), type);
      if (to > 7) continue;
      ASSERT_EQ(resized.size(2), to);
      const std::vector<double> expected = shrink_row(row, to);
      for (int i = 0; i < to; ++i) {
        EXPECT_NEAR(resized[1][0][i].item<double>(), expected[static_cast<std::size_t>(i)], type == at::kFloat ? 1e-3 : 1.01);
      }
    }
  }
}

TEST(ResizeShortestEdge, DrawsFromItsLengthsAndMovesBoxes) {
  std::set<std::int64_t> chosen, ranged;
  for (std::uint64_t position = 0; position < 200; ++position) {
    Rng rng(1, position);
    const at::Tensor input = at::zeros({1, 10, 20});
    chosen.insert(resize_shortest_edge({.sizes = {4, 9}})({{"image", input}}, rng).at("image").as_tensor().size(1));
    ranged.insert(
        resize_shortest_edge({.sizes = {4, 9}, .range = true})({{"image", input}}, rng).at("image").as_tensor().size(1));
  }
  EXPECT_EQ(chosen, (std::set<std::int64_t>{4, 9}));
  EXPECT_EQ(run(resize_shortest_edge({.sizes = {0}, .max_size = 5}), at::zeros({1, 10, 20})).size(2), 20) << "as it is";
  EXPECT_EQ(ranged, (std::set<std::int64_t>{4, 5, 6, 7, 8, 9}));
  Rng rng;
  const Sample moved = resize_shortest_edge({.sizes = {5}})(
      with_boxes(at::zeros({3, 10, 21}), at::tensor({2.0, 4.0, 21.0, 10.0}).view({1, 4})), rng);
  ASSERT_EQ(moved.at("image").as_tensor().sizes(), (at::IntArrayRef{3, 5, 11}));
  const at::Tensor& boxes = moved.at("boxes").as_tensor();
  const std::vector<double> expected{2.0 * 11 / 21, 2, 11, 5};
  for (std::int64_t i = 0; i < 4; ++i) EXPECT_NEAR(boxes[0][i].item<double>(), expected[static_cast<std::size_t>(i)], 1e-6);
  EXPECT_EQ(rng.position(), 1u);
}

// Pictures come as they were decoded, with the channels of a pixel side by side.
TEST(Transforms, StridesOfTheImageDoNotMatter) {
  Rng seed(4);
  at::Tensor rows = at::zeros({37, 53, 3}, at::kByte);
  for (std::int64_t i = 0; i < rows.numel(); ++i)
    rows.mutable_data_ptr<std::uint8_t>()[i] = static_cast<std::uint8_t>(seed.below(256));
  const at::Tensor strided = rows.permute({2, 0, 1}), plain = strided.contiguous();
  const std::vector<Transform> transforms = {random_flip({.probability = 1}),
                                             random_flip({.probability = 1, .vertical = true}),
                                             random_crop({.height = 9, .width = 8}),
                                             random_crop({.height = 40, .width = 60, .padding = 5}),
                                             random_part({.size = {0.3, 0.3}}),
                                             resize_shortest_edge({.sizes = {20}}),
                                             resize_shortest_edge({.sizes = {61}}),
                                             color_jitter({.brightness = 0.5, .contrast = 0.5, .saturation = 0.5, .hue = 0.3}),
                                             normalize({.mean = {1, 2, 3}, .std = {4, 5, 6}})};
  for (std::size_t i = 0; i < transforms.size(); ++i)
    EXPECT_TRUE(at::equal(run(transforms[i], strided, 7), run(transforms[i], plain, 7))) << i;
  const at::Tensor small = run(compose({resize_shortest_edge({.sizes = {20}}), normalize({.mean = {1}, .std = {2}})}), strided);
  EXPECT_TRUE(small.is_contiguous());
}

TEST(Transforms, NewOnesNameTheOptionThatIsOutOfRange) {
  const auto key = [](const std::function<void()>& make) -> std::string {
    try {
      make();
    } catch (const ConfigError& error) {
      return error.key();
    }
    return "none";
  };
  EXPECT_EQ(key([] { resize_shortest_edge({}); }), "ResizeShortestEdgeOptions.sizes");
  EXPECT_EQ(key([] { resize_shortest_edge({.sizes = {-1}}); }), "ResizeShortestEdgeOptions.sizes");
  EXPECT_EQ(key([] { random_part({.size = {0, 0.5}}); }), "RandomPartOptions.size");
  EXPECT_EQ(key([] { random_part({.kind = PartSize::relative, .size = {0.5, 1.1}}); }), "RandomPartOptions.size");
  EXPECT_EQ(key([] { random_part({.kind = PartSize::absolute, .size = {0, 4}}); }), "RandomPartOptions.size");
  EXPECT_EQ(key([] { random_part({.kind = PartSize::absolute, .size = {4.5, 4}}); }), "RandomPartOptions.size");
  EXPECT_EQ(key([] { random_part({.kind = PartSize::absolute_range, .size = {5, 4}}); }), "RandomPartOptions.size");
  EXPECT_EQ(key([] { random_part({.kind = PartSize::absolute, .size = {5, 4}}); }), "none");
  EXPECT_EQ(key([] { color_jitter({.hue = 0.6}); }), "ColorJitterOptions.hue");
  EXPECT_EQ(key([] { color_jitter({.hue = -0.1}); }), "ColorJitterOptions.hue");
  EXPECT_EQ(key([] { resize_shortest_edge({.sizes = {4}, .range = true}); }), "ResizeShortestEdgeOptions.sizes");
  EXPECT_EQ(key([] { resize_shortest_edge({.sizes = {4, 3}, .range = true}); }), "ResizeShortestEdgeOptions.sizes");
  EXPECT_EQ(key([] { resize_shortest_edge({.sizes = {4}, .max_size = -1}); }), "ResizeShortestEdgeOptions.max_size");
  EXPECT_EQ(key([] { color_jitter({.brightness = -1}); }), "ColorJitterOptions.brightness");
  EXPECT_EQ(key([] { color_jitter({.contrast = -1}); }), "ColorJitterOptions.contrast");
  EXPECT_EQ(key([] { color_jitter({.saturation = std::nan("")}); }), "ColorJitterOptions.saturation");
}

TEST(Boxes, HaveOneTypeWhateverIsDrawn) {
  const Transform chains[] = {random_flip({.probability = 0}), random_flip({.probability = 1}),
                              resize_shortest_edge({.sizes = {0}}), resize_shortest_edge({.sizes = {3}}),
                              random_crop({.height = 2, .width = 2})};
  for (const auto& [from, to] :
       {std::pair{at::kLong, at::kFloat}, std::pair{at::kInt, at::kFloat}, std::pair{at::kHalf, at::kFloat},
        std::pair{at::kFloat, at::kFloat}, std::pair{at::kDouble, at::kDouble}}) {
    for (const Transform& transform : chains) {
      Rng rng;
      const Sample moved = transform(with_boxes(image(), at::zeros({2, 4}, from)), rng);
      EXPECT_EQ(moved.at("boxes").as_tensor().scalar_type(), to) << from;
    }
  }
  Rng rng;
  for (const Transform& transform : chains) EXPECT_THROW(transform(with_boxes(image(), at::zeros({4})), rng), FormatError);
}

}  // namespace
}  // namespace treadle

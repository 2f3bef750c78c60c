#include <treadle/base/errors.hpp>
#include <treadle/data/transforms.hpp>

#include <ATen/ops/equal.h>
#include <ATen/ops/full.h>
#include <ATen/ops/tensor.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <cmath>

namespace treadle {
namespace {

TEST(ColorJitter, FollowsItsFormulas) {
  const at::Tensor pixels = at::tensor({10, 250, 100, 40, 90, 200}, at::kByte).view({3, 1, 2});
  const auto grey = [](double r, double g, double b) { return 0.2989 * r + 0.587 * g + 0.114 * b; };
  const double greys[] = {grey(10, 100, 90), grey(250, 40, 200)}, mean = (greys[0] + greys[1]) / 2;
  for (std::uint64_t position = 0; position < 30; ++position) {
    for (int kind = 0; kind < 3; ++kind) {
      ColorJitterOptions options{};
      (kind == 0 ? options.brightness : kind == 1 ? options.contrast : options.saturation) = 0.8;
      Rng rng(3, position), same(3, position);
      const at::Tensor changed = color_jitter(options)({{"image", pixels}}, rng).at("image").as_tensor();
      EXPECT_EQ(rng.position(), 4u);
      for (int i = 0; i < kind; ++i) same.uniform();
      const double factor = same.uniform(0.2, 1.8);
      for (std::int64_t channel = 0; channel < 3; ++channel) {
        for (std::int64_t column = 0; column < 2; ++column) {
          const double other = kind == 0 ? 0 : kind == 1 ? mean : greys[column];
          const double exact = factor * pixels[channel][0][column].item<double>() + (1 - factor) * other;
          EXPECT_NEAR(changed[channel][0][column].item<double>(), std::clamp(exact, 0.0, 255.0), 0.51) << kind;
        }
      }
    }
  }
  Rng rng;
  EXPECT_TRUE(at::equal(color_jitter({})({{"image", pixels}}, rng).at("image").as_tensor(), pixels));
  EXPECT_EQ(rng.position(), 4u) << "as many draws whatever it does";
  const at::Tensor floats = color_jitter({.brightness = 5})({{"image", at::full({1, 2, 2}, 0.5)}}, rng).at("image").as_tensor();
  EXPECT_LE(floats.max().item<double>(), 1.0);
  EXPECT_EQ(color_jitter({.saturation = 1, .hue = 0.5})({{"image", pixels.slice(0, 0, 1)}}, rng).at("image").as_tensor().size(0),
            1);
  EXPECT_THROW(color_jitter({})({{"image", pixels.slice(0, 0, 2)}}, rng), FormatError);
  EXPECT_THROW(color_jitter({})({{"image", pixels.to(at::kLong)}}, rng), FormatError);
}

/// A colour in [0, 1] with its hue turned, by way of HSV and the table of six sectors (Smith, "Color gamut transform pairs",
/// 1978).
std::array<double, 3> turned(std::array<double, 3> colour, double turn) {
  const auto [r, g, b] = colour;
  const double value = std::max({r, g, b}), least = std::min({r, g, b}), range = value - least;
  const double saturation = value == 0 ? 0 : range / value;
  double hue = 0;
  if (range > 0) {
    const double from_r = (value - r) / range, from_g = (value - g) / range, from_b = (value - b) / range;
    hue = (value == r ? from_b - from_g : value == g ? 2 + from_r - from_b : 4 + from_g - from_r) / 6;
  }
  hue += turn;
  hue -= std::floor(hue);
  const int sector = static_cast<int>(hue * 6) % 6;
  const double within = hue * 6 - std::floor(hue * 6);
  const double p = value * (1 - saturation), q = value * (1 - saturation * within), t = value * (1 - saturation * (1 - within));
  const std::array<double, 3> sectors[] = {{value, t, p}, {q, value, p}, {p, value, t},
                                           {p, q, value}, {t, p, value}, {value, p, q}};
  return sectors[sector];
}

TEST(ColorJitter, TurnsTheHue) {
  std::vector<double> levels;
  for (const double r : {0, 60, 128, 255}) {
    for (const double g : {0, 60, 200, 255}) {
      for (const double b : {0, 60, 100, 255}) levels.insert(levels.end(), {r, g, b});
    }
  }
  const at::Tensor bytes = at::tensor(levels, at::kDouble).view({-1, 1, 3}).permute({2, 1, 0}).contiguous();
  const std::int64_t pixels = bytes.size(2);
  double most = 0, least = 0;
  for (std::uint64_t position = 0; position < 40; ++position) {
    for (const at::ScalarType type : {at::kByte, at::kFloat, at::kDouble}) {
      const double scale = type == at::kByte ? 1 : 255;
      Rng rng(3, position), same(3, position);
      const at::Tensor changed = color_jitter({.hue = 0.4})({{"image", bytes.div(scale).to(type)}}, rng).at("image").as_tensor();
      ASSERT_EQ(changed.scalar_type(), type);
      for (int i = 0; i < 3; ++i) same.uniform();
      const double turn = same.uniform(-0.4, 0.4);
      most = std::max(most, turn);
      least = std::min(least, turn);
      for (std::int64_t i = 0; i < pixels; ++i) {
        const auto channel = [&](std::int64_t c) { return bytes[c][0][i].item<double>() / 255; };
        const std::array<double, 3> expected = turned({channel(0), channel(1), channel(2)}, turn);
        for (std::int64_t c = 0; c < 3; ++c) {
          EXPECT_NEAR(changed[c][0][i].item<double>() * scale, expected[static_cast<std::size_t>(c)] * 255,
                      type == at::kByte    ? 0.501
                      : type == at::kFloat ? 1e-3
                                           : 1e-10);
        }
      }
    }
  }
  EXPECT_GT(most, 0.3);
  EXPECT_LT(least, -0.3);
}

}  // namespace
}  // namespace treadle

#pragma once

#include <treadle/base/batch.hpp>
#include <treadle/base/rng.hpp>

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

namespace treadle {

/// Changes one sample. Called by many threads at once, so it holds no mutable state; every random choice comes from the Rng,
/// which belongs to this sample alone. A transform that changes an image makes a new tensor: the one it is given may be shared.
using Transform = std::function<Sample(Sample, Rng&)>;

/// Applies `transforms` in order, with one Rng for all of them.
Transform compose(std::vector<Transform> transforms);

/// The transforms below work on the tensor field `field` of shape (C, H, W). They throw FormatError when the sample has no such
/// field or it has another shape, and their makers throw ConfigError for options out of range. Each draws the same number of
/// random numbers whatever it decides, so that taking one out of a chain changes the randomness of those behind it by a fixed
/// offset only.

/// Mirrors left and right. Draws one number.
struct RandomFlipOptions {
  double probability = 0.5;  ///< in [0, 1]
  std::string field = "image";
};
void validate(const RandomFlipOptions& options);
Transform random_flip(RandomFlipOptions options = {});

/// Cuts a window of `height` x `width` out of the image with `padding` pixels of `fill` around it, every position equally likely.
/// Draws two numbers: row, then column. FormatError when the padded image is smaller than the window.
struct RandomCropOptions {
  std::int64_t height = 0;   ///< pixels; at least 1
  std::int64_t width = 0;    ///< pixels; at least 1
  std::int64_t padding = 0;  ///< pixels on each side; at least 0
  double fill = 0;
  std::string field = "image";
};
void validate(const RandomCropOptions& options);
Transform random_crop(RandomCropOptions options);

/// (image - mean) / std for each channel, in float32; an integer image is converted first, not rescaled. Draws nothing.
struct NormalizeOptions {
  std::vector<double> mean{};  ///< one number per channel, or a single one for all
  std::vector<double> std{};   ///< as many as `mean`; finite and above 0
  std::string field = "image";
};
void validate(const NormalizeOptions& options);
Transform normalize(NormalizeOptions options);

}  // namespace treadle

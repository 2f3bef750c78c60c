#pragma once

#include <treadle/base/batch.hpp>
#include <treadle/base/rng.hpp>
#include <treadle/image/image.hpp>

#include <array>
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
///
/// Those that move pixels move boxes with them: the field `boxes`, where a sample has it, a tensor of shape (N, 4) with the
/// corners (x0, y0, x1, y1) in pixels from the upper left corner of the image; x grows to the right. Boxes come out as
/// floating-point numbers, float32 unless they came in wider. A row is never taken away, so that it keeps its class: a box that
/// lies outside afterwards has no area.

/// Mirrors left and right, or up and down. Draws one number. Boxes: x becomes W - x, or y becomes H - y.
struct RandomFlipOptions {
  double probability = 0.5;  ///< in [0, 1]
  bool vertical = false;     ///< up and down
  std::string field = "image";
  std::string boxes = "boxes";
};
void validate(const RandomFlipOptions& options);
Transform random_flip(RandomFlipOptions options = {});

/// Cuts a window of `height` x `width` out of the image with `padding` pixels of `fill` around it, every position equally likely.
/// Draws two numbers: row, then column. FormatError when the padded image is smaller than the window. Boxes are moved and cut off
/// at the window.
struct RandomCropOptions {
  std::int64_t height = 0;   ///< pixels; at least 1
  std::int64_t width = 0;    ///< pixels; at least 1
  std::int64_t padding = 0;  ///< pixels on each side; at least 0
  double fill = 0;
  std::string field = "image";
  std::string boxes = "boxes";
};
void validate(const RandomCropOptions& options);
Transform random_crop(RandomCropOptions options);

/// What `RandomPartOptions::size` says about the height and width of the part.
enum class PartSize {
  relative,        ///< shares of those of the image, in (0, 1]
  relative_range,  ///< the least shares; the greatest are 1, and any between is equally likely
  absolute,        ///< pixels, or those of the image where it has fewer
  absolute_range   ///< the least and the greatest of both, in pixels; height and width are drawn one by one
};
/// Cuts a part of a drawn size out of the image, every position equally likely (Detectron2's RandomCrop). Draws four numbers:
/// height, width, row, column. Shares of the image are rounded to nearest, to one pixel at least. Boxes as with `random_crop`.
struct RandomPartOptions {
  PartSize kind = PartSize::relative_range;
  std::array<double, 2> size = {0.9, 0.9};  ///< whole numbers where they are pixels
  std::string field = "image";
  std::string boxes = "boxes";
};
void validate(const RandomPartOptions& options);
Transform random_part(RandomPartOptions options);

/// Resizes so that the shorter side has a drawn length, and the longer one, in proportion, at most `max_size` (Detectron2's
/// ResizeShortestEdge: both sides times one scale, plus a half, rounded down). Draws one number. Pixels are computed by
/// LibTorch's at::_upsample_bilinear2d_aa (bilinear with antialiasing, corners not aligned), in the image's own type for uint8
/// and floating-point numbers. Boxes are multiplied by the new side over the old one.
struct ResizeShortestEdgeOptions {
  /// Lengths to choose from, at least one; with `range` exactly the least and the greatest. 0 leaves the image as it is.
  std::vector<std::int64_t> sizes{};
  bool range = false;         ///< any integer from the first of `sizes` to the second, instead of one of them
  std::int64_t max_size = 0;  ///< 0: any
  std::string field = "image";
  std::string boxes = "boxes";
};
void validate(const ResizeShortestEdgeOptions& options);
Transform resize_shortest_edge(ResizeShortestEdgeOptions options);
/// The size it gives an image of size `from` when it has drawn `size`.
ImageSize shortest_edge_size(ImageSize from, std::int64_t size, std::int64_t max_size);

/// Changes brightness, contrast, saturation and hue, in this order. The first three by a factor drawn from [max(0, 1 - x), 1 +
/// x): the image is mixed with black, with its mean grey, and with its own grey picture, `factor * image + (1 - factor) * other`,
/// clipped to [0, 255] for uint8 (rounded to nearest at the end) and to [0, 1] for floating-point images; grey is 0.2989 R +
/// 0.587 G + 0.114 B. The hue is turned by a part of the circle drawn from [-x, x), with saturation and value as in HSV kept.
/// (The formulas of torchvision's ColorJitter, for channels in the order R, G, B.) Draws four numbers. One channel or three; one
/// has neither saturation nor hue.
struct ColorJitterOptions {
  double brightness = 0;  ///< at least 0; 0 leaves it as it is
  double contrast = 0;
  double saturation = 0;
  double hue = 0;  ///< in [0, 0.5]
  std::string field = "image";
};
void validate(const ColorJitterOptions& options);
Transform color_jitter(ColorJitterOptions options);

/// (image - mean) / std for each channel, in float32; an integer image is converted first, not rescaled. Draws nothing.
struct NormalizeOptions {
  std::vector<double> mean{};  ///< one number per channel, or a single one for all
  std::vector<double> std{};   ///< as many as `mean`; finite and above 0
  std::string field = "image";
};
void validate(const NormalizeOptions& options);
Transform normalize(NormalizeOptions options);

}  // namespace treadle

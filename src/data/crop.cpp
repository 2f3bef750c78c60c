#include <ATen/ops/full.h>

#include <algorithm>
#include <cmath>
#include <cstring>

#include "data/transform_image.hpp"

namespace treadle {
namespace {

struct Window {
  std::int64_t top, left, height, width;
};

/// The window of `from`, which `fill` surrounds.
at::Tensor cut(const at::Tensor& from, const Window& window, double fill) {
  const bool inside = window.top >= 0 && window.left >= 0 && window.top + window.height <= from.size(1) &&
                      window.left + window.width <= from.size(2);
  if (inside && !from.is_contiguous())
    return from.narrow(1, window.top, window.height).narrow(2, window.left, window.width).contiguous();
  const at::Tensor image = from.contiguous();
  at::Tensor result = at::full({image.size(0), window.height, window.width}, fill, image.options());
  const std::int64_t first_row = std::max<std::int64_t>(window.top, 0),
                     last_row = std::min(window.top + window.height, image.size(1));
  const std::int64_t first_column = std::max<std::int64_t>(window.left, 0),
                     last_column = std::min(window.left + window.width, image.size(2));
  if (first_column >= last_column) return result;
  const auto element = static_cast<std::int64_t>(image.element_size());
  const auto* pixels = static_cast<const char*>(image.const_data_ptr());
  auto* to = static_cast<char*>(result.mutable_data_ptr());
  for (std::int64_t channel = 0; channel < image.size(0); ++channel) {
    for (std::int64_t row = first_row; row < last_row; ++row) {
      const std::int64_t source = (channel * image.size(1) + row) * image.size(2) + first_column;
      const std::int64_t target = (channel * window.height + row - window.top) * window.width + first_column - window.left;
      std::memcpy(to + target * element, pixels + source * element,
                  static_cast<std::size_t>((last_column - first_column) * element));
    }
  }
  return result;
}

void cut_sample(Sample& sample, const std::string& field, const std::string& boxes, const at::Tensor& image, const Window& window,
                double fill) {
  sample.set(field, cut(image, window, fill));
  move_boxes(sample, boxes, [&](std::vector<at::Tensor>& corners) {
    for (std::size_t i : {0u, 2u}) corners[i] = corners[i].sub(window.left).clamp(0, window.width);
    for (std::size_t i : {1u, 3u}) corners[i] = corners[i].sub(window.top).clamp(0, window.height);
  });
}

/// 0 … count - 1, each equally likely.
std::int64_t draw(Rng& rng, std::int64_t count) {
  return static_cast<std::int64_t>(rng.below(static_cast<std::uint64_t>(count)));
}

}  // namespace

void validate(const RandomCropOptions& options) {
  require_option(options.height >= 1, "RandomCropOptions.height", "at least 1", static_cast<double>(options.height));
  require_option(options.width >= 1, "RandomCropOptions.width", "at least 1", static_cast<double>(options.width));
  require_option(options.padding >= 0, "RandomCropOptions.padding", "at least 0", static_cast<double>(options.padding));
}

Transform random_crop(RandomCropOptions options) {
  validate(options);
  return [options = std::move(options)](Sample sample, Rng& rng) {
    const at::Tensor image = image_of(sample, options.field);
    const std::int64_t rows = image.size(1) + 2 * options.padding - options.height + 1;
    const std::int64_t columns = image.size(2) + 2 * options.padding - options.width + 1;
    if (rows < 1 || columns < 1) {
      throw FormatError(fmt::format("an image of {} x {} pixels with {} around it is too small to cut {} x {} out of it",
                                    image.size(1), image.size(2), options.padding, options.height, options.width));
    }
    const std::int64_t top = draw(rng, rows) - options.padding, left = draw(rng, columns) - options.padding;
    cut_sample(sample, options.field, options.boxes, image, {top, left, options.height, options.width}, options.fill);
    return sample;
  };
}

void validate(const RandomPartOptions& options) {
  const bool relative = options.kind == PartSize::relative || options.kind == PartSize::relative_range;
  for (const double side : options.size) {
    if (relative) {
      require_option(side > 0 && side <= 1, "RandomPartOptions.size", "in (0, 1]", side);
    } else {
      require_option(side >= 1 && side <= 1e9 && side == std::floor(side), "RandomPartOptions.size", "whole pixels, at least 1",
                     side);
    }
  }
  if (options.kind == PartSize::absolute_range) {
    require_option(options.size[0] <= options.size[1], "RandomPartOptions.size", "in ascending order", options.size[1]);
  }
}

namespace {

/// A length of one side of the part, of an image whose side has `whole` pixels; `u` is drawn from [0, 1).
std::int64_t part_of(std::int64_t whole, const RandomPartOptions& options, std::size_t side, double u) {
  const auto pixels = [](double length) {
    return std::max<std::int64_t>(1, static_cast<std::int64_t>(std::floor(length + 0.5)));
  };
  const auto at_most_whole = [&](double size) { return std::min(whole, static_cast<std::int64_t>(size)); };
  switch (options.kind) {
    case PartSize::relative:
      return pixels(static_cast<double>(whole) * options.size[side]);
    case PartSize::relative_range: {
      // Detectron2 keeps the least share in float32.
      const auto least = static_cast<float>(options.size[side]);
      return pixels(static_cast<double>(whole) * (least + u * (1 - least)));
    }
    case PartSize::absolute:
      return at_most_whole(options.size[side]);
    case PartSize::absolute_range:
      break;
  }
  const std::int64_t least = at_most_whole(options.size[0]), greatest = at_most_whole(options.size[1]);
  return least + static_cast<std::int64_t>(u * static_cast<double>(greatest - least + 1));
}

}  // namespace

Transform random_part(RandomPartOptions options) {
  validate(options);
  return [options = std::move(options)](Sample sample, Rng& rng) {
    const at::Tensor image = image_of(sample, options.field);
    const std::int64_t rows = image.size(1), columns = image.size(2);
    if (rows < 1 || columns < 1) throw FormatError("nothing can be cut out of an image without pixels");
    Window window{};
    window.height = part_of(rows, options, 0, rng.uniform());
    window.width = part_of(columns, options, 1, rng.uniform());
    window.top = draw(rng, rows - window.height + 1);
    window.left = draw(rng, columns - window.width + 1);
    cut_sample(sample, options.field, options.boxes, image, window, 0);
    return sample;
  };
}

}  // namespace treadle

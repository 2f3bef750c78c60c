#include <treadle/base/errors.hpp>
#include <treadle/data/transforms.hpp>

#include <ATen/ops/_upsample_bilinear2d_aa.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/full.h>
#include <ATen/ops/stack.h>
#include <ATen/ops/tensor.h>
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <cstring>

namespace treadle {

namespace {

/// The image of a sample as a contiguous tensor.
at::Tensor image_of(const Sample& sample, const std::string& field) {
  const Value* value = sample.find(field);
  if (!value) throw FormatError(fmt::format("the sample has no field \"{}\" to transform", field));
  if (!value->is(Value::Type::tensor) || value->as_tensor().dim() != 3) {
    throw FormatError(fmt::format("the field \"{}\" must be a tensor of shape (C, H, W), found {}", field, describe(*value)));
  }
  return value->as_tensor().contiguous();
}

/// Replaces the boxes of a sample, if it has any, by what `move` makes of the columns x0, y0, x1, y1.
template <class Move>
void move_boxes(Sample& sample, const std::string& field, const Move& move) {
  const Value* value = sample.find(field);
  if (!value) return;
  if (!value->is(Value::Type::tensor) || value->as_tensor().dim() != 2 || value->as_tensor().size(1) != 4) {
    throw FormatError(fmt::format("the field \"{}\" must be a tensor of shape (N, 4), found {}", field, describe(*value)));
  }
  const at::Tensor& boxes = value->as_tensor();
  const at::Tensor corners = boxes.is_floating_point() ? boxes : boxes.to(at::kFloat);
  std::vector<at::Tensor> columns;
  for (std::int64_t i = 0; i < 4; ++i) columns.push_back(corners.select(1, i));
  move(columns);
  sample.set(field, at::stack(columns, 1));
}

template <class Element>
void mirror_rows(const at::Tensor& from, at::Tensor& to) {
  const auto* row = static_cast<const Element*>(from.const_data_ptr());
  auto* mirrored = static_cast<Element*>(to.mutable_data_ptr());
  const std::int64_t width = from.size(2), rows = from.size(0) * from.size(1);
  for (std::int64_t i = 0; i < rows; ++i, row += width, mirrored += width) std::reverse_copy(row, row + width, mirrored);
}

// at::flip costs several times as much for a small image. Elements move as they are, so their size alone matters.
at::Tensor mirrored(const at::Tensor& image) {
  at::Tensor result = at::empty(image.sizes(), image.options());
  switch (image.element_size()) {
    case 1:
      mirror_rows<std::uint8_t>(image, result);
      return result;
    case 2:
      mirror_rows<std::uint16_t>(image, result);
      return result;
    case 4:
      mirror_rows<std::uint32_t>(image, result);
      return result;
    case 8:
      mirror_rows<std::uint64_t>(image, result);
      return result;
    default:
      return image.flip(2);
  }
}

// The window of `height` x `width` whose corner lies at (top, left) of `image`, which `fill` surrounds.
at::Tensor window(const at::Tensor& image, std::int64_t top, std::int64_t left, const RandomCropOptions& options) {
  at::Tensor result = at::full({image.size(0), options.height, options.width}, options.fill, image.options());
  const std::int64_t first_row = std::max<std::int64_t>(top, 0), last_row = std::min(top + options.height, image.size(1));
  const std::int64_t first_column = std::max<std::int64_t>(left, 0), last_column = std::min(left + options.width, image.size(2));
  if (first_column >= last_column) return result;
  const auto element = static_cast<std::int64_t>(image.element_size());
  const auto* from = static_cast<const char*>(image.const_data_ptr());
  auto* to = static_cast<char*>(result.mutable_data_ptr());
  for (std::int64_t channel = 0; channel < image.size(0); ++channel) {
    for (std::int64_t row = first_row; row < last_row; ++row) {
      const std::int64_t source = (channel * image.size(1) + row) * image.size(2) + first_column;
      const std::int64_t target = (channel * options.height + row - top) * options.width + first_column - left;
      std::memcpy(to + target * element, from + source * element,
                  static_cast<std::size_t>((last_column - first_column) * element));
    }
  }
  return result;
}

void require(bool good, const char* key, const std::string& range, double found) {
  if (!good) throw ConfigError(fmt::format("{} must be {}, found {}", key, range, found), key);
}

at::Tensor per_channel(const std::vector<double>& numbers) {
  return at::tensor(numbers, at::kFloat).view({static_cast<std::int64_t>(numbers.size()), 1, 1});
}

}  // namespace

Transform compose(std::vector<Transform> transforms) {
  for (std::size_t i = 0; i < transforms.size(); ++i) {
    if (!transforms[i]) throw ConfigError(fmt::format("transform {} of compose is empty", i), "transforms");
  }
  return [transforms = std::move(transforms)](Sample sample, Rng& rng) {
    for (const Transform& transform : transforms) sample = transform(std::move(sample), rng);
    return sample;
  };
}

void validate(const RandomFlipOptions& options) {
  require(options.probability >= 0 && options.probability <= 1, "RandomFlipOptions.probability", "in [0, 1]",
          options.probability);
}

Transform random_flip(RandomFlipOptions options) {
  validate(options);
  return [options = std::move(options)](Sample sample, Rng& rng) {
    const at::Tensor image = image_of(sample, options.field);
    if (!rng.chance(options.probability)) return sample;
    sample.set(options.field, mirrored(image));
    move_boxes(sample, options.boxes, [width = static_cast<double>(image.size(2))](std::vector<at::Tensor>& corners) {
      const at::Tensor left = corners[2].neg().add(width);
      corners[2] = corners[0].neg().add(width);
      corners[0] = left;
    });
    return sample;
  };
}

void validate(const RandomCropOptions& options) {
  require(options.height >= 1, "RandomCropOptions.height", "at least 1", static_cast<double>(options.height));
  require(options.width >= 1, "RandomCropOptions.width", "at least 1", static_cast<double>(options.width));
  require(options.padding >= 0, "RandomCropOptions.padding", "at least 0", static_cast<double>(options.padding));
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
    const auto top = static_cast<std::int64_t>(rng.below(static_cast<std::uint64_t>(rows))) - options.padding;
    const auto left = static_cast<std::int64_t>(rng.below(static_cast<std::uint64_t>(columns))) - options.padding;
    sample.set(options.field, window(image, top, left, options));
    move_boxes(sample, options.boxes, [&](std::vector<at::Tensor>& corners) {
      for (std::size_t i : {0u, 2u}) corners[i] = corners[i].sub(left).clamp(0, options.width);
      for (std::size_t i : {1u, 3u}) corners[i] = corners[i].sub(top).clamp(0, options.height);
    });
    return sample;
  };
}

void validate(const ResizeShortestEdgeOptions& options) {
  if (options.sizes.empty() || (options.range && options.sizes.size() != 2)) {
    throw ConfigError(
        fmt::format("ResizeShortestEdgeOptions.sizes must hold {}, found {}",
                    options.range ? "the least and the greatest length" : "at least one length", options.sizes.size()),
        "ResizeShortestEdgeOptions.sizes");
  }
  for (std::int64_t size : options.sizes)
    require(size >= 1, "ResizeShortestEdgeOptions.sizes", "at least 1", static_cast<double>(size));
  if (options.range) {
    require(options.sizes[0] <= options.sizes[1], "ResizeShortestEdgeOptions.sizes", "in ascending order",
            static_cast<double>(options.sizes[1]));
  }
  require(options.max_size >= 0, "ResizeShortestEdgeOptions.max_size", "at least 0", static_cast<double>(options.max_size));
}

ImageSize shortest_edge_size(ImageSize from, std::int64_t size, std::int64_t max_size) {
  const auto height = static_cast<double>(from.height), width = static_cast<double>(from.width);
  const double scale = static_cast<double>(size) / std::min(height, width);
  double new_height = from.height < from.width ? static_cast<double>(size) : scale * height;
  double new_width = from.height < from.width ? scale * width : static_cast<double>(size);
  const double longer = std::max(new_height, new_width);
  if (max_size > 0 && longer > static_cast<double>(max_size)) {
    const double shrink = static_cast<double>(max_size) / longer;
    new_height *= shrink;
    new_width *= shrink;
  }
  const auto pixels = [](double side) { return std::max<std::int64_t>(1, static_cast<std::int64_t>(std::floor(side + 0.5))); };
  return {pixels(new_height), pixels(new_width)};
}

namespace {

/// An image of any kind at another size.
at::Tensor resized(const at::Tensor& image, ImageSize to) {
  if (image.size(1) == to.height && image.size(2) == to.width) return image;
  const at::ScalarType type = image.scalar_type();
  const bool own_type = type == at::kByte || at::isFloatingType(type);
  const at::Tensor pixels = own_type ? image : image.to(at::kFloat);
  const at::Tensor result =
      at::_upsample_bilinear2d_aa(pixels.unsqueeze(0), {to.height, to.width}, false, std::nullopt, std::nullopt).squeeze(0);
  return own_type ? result.contiguous() : result.round().to(type);
}

}  // namespace

Transform resize_shortest_edge(ResizeShortestEdgeOptions options) {
  validate(options);
  return [options = std::move(options)](Sample sample, Rng& rng) {
    const at::Tensor image = image_of(sample, options.field);
    const std::int64_t count =
        options.range ? options.sizes[1] - options.sizes[0] + 1 : static_cast<std::int64_t>(options.sizes.size());
    const std::uint64_t drawn = rng.below(static_cast<std::uint64_t>(count));
    const std::int64_t size = options.range ? options.sizes[0] + static_cast<std::int64_t>(drawn) : options.sizes[drawn];
    const ImageSize from{image.size(1), image.size(2)};
    if (from.height < 1 || from.width < 1) throw FormatError("an image without pixels cannot be resized");
    const ImageSize to = shortest_edge_size(from, size, options.max_size);
    sample.set(options.field, resized(image, to));
    move_boxes(sample, options.boxes, [&](std::vector<at::Tensor>& corners) {
      const double across = static_cast<double>(to.width) / static_cast<double>(from.width);
      const double down = static_cast<double>(to.height) / static_cast<double>(from.height);
      for (std::size_t i : {0u, 2u}) corners[i] = corners[i].mul(across);
      for (std::size_t i : {1u, 3u}) corners[i] = corners[i].mul(down);
    });
    return sample;
  };
}

void validate(const ColorJitterOptions& options) {
  const auto check = [](const char* key, double value) { require(std::isfinite(value) && value >= 0, key, "at least 0", value); };
  check("ColorJitterOptions.brightness", options.brightness);
  check("ColorJitterOptions.contrast", options.contrast);
  check("ColorJitterOptions.saturation", options.saturation);
}

namespace {

at::Tensor grey_of(const at::Tensor& image) {
  if (image.size(0) == 1) return image;
  return image[0].mul(0.2989).add_(image[1], 0.587).add_(image[2], 0.114).unsqueeze(0);
}

/// `factor * image + (1 - factor) * other`, within what the image's type holds.
at::Tensor mix(const at::Tensor& image, const at::Tensor& other, double factor, double most) {
  return image.mul(factor).add_(other, 1 - factor).clamp_(0, most);
}

at::Tensor jittered(at::Tensor image, double brightness, double contrast, double saturation, double most) {
  if (brightness != 1) image = image.mul(brightness).clamp_(0, most);
  if (contrast != 1) image = mix(image, grey_of(image).mean(), contrast, most);
  if (saturation != 1 && image.size(0) == 3) image = mix(image, grey_of(image), saturation, most);
  return image;
}

}  // namespace

Transform color_jitter(ColorJitterOptions options) {
  validate(options);
  return [options = std::move(options)](Sample sample, Rng& rng) {
    const at::Tensor image = image_of(sample, options.field);
    if (image.size(0) != 1 && image.size(0) != 3)
      throw FormatError(fmt::format("an image must have 1 or 3 channels for color_jitter, found {}", image.size(0)));
    const bool bytes = image.scalar_type() == at::kByte;
    if (!bytes && !image.is_floating_point())
      throw FormatError(fmt::format("color_jitter needs a uint8 or floating-point image, found {}", describe(image)));
    const auto factor = [&](double strength) {
      const double drawn = rng.uniform(std::max(0.0, 1 - strength), 1 + strength);
      return strength == 0 ? 1.0 : drawn;
    };
    const double brightness = factor(options.brightness), contrast = factor(options.contrast),
                 saturation = factor(options.saturation);
    if (brightness == 1 && contrast == 1 && saturation == 1) return sample;
    const at::Tensor changed = jittered(bytes ? image.to(at::kFloat) : image, brightness, contrast, saturation, bytes ? 255 : 1);
    sample.set(options.field, bytes ? changed.round().to(at::kByte) : changed);
    return sample;
  };
}

void validate(const NormalizeOptions& options) {
  if (options.mean.empty() || options.mean.size() != options.std.size()) {
    throw ConfigError(
        fmt::format("NormalizeOptions.mean and NormalizeOptions.std must have one number per channel each, found {} and {}",
                    options.mean.size(), options.std.size()),
        "NormalizeOptions.mean");
  }
  for (double mean : options.mean) require(std::isfinite(mean), "NormalizeOptions.mean", "finite", mean);
  for (double std : options.std) require(std::isfinite(std) && std > 0, "NormalizeOptions.std", "finite and above 0", std);
}

Transform normalize(NormalizeOptions options) {
  validate(options);
  return [field = options.field, mean = per_channel(options.mean), std = per_channel(options.std)](Sample sample, Rng&) {
    const at::Tensor image = image_of(sample, field);
    if (mean.size(0) != 1 && mean.size(0) != image.size(0)) {
      throw FormatError(fmt::format("the image has {} channels, NormalizeOptions.mean has {}", image.size(0), mean.size(0)));
    }
    sample.set(field, image.to(at::kFloat).sub(mean).div(std));
    return sample;
  };
}

}  // namespace treadle

#include <ATen/ops/_upsample_bilinear2d_aa.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/tensor.h>

#include <algorithm>
#include <cmath>

#include "data/transform_image.hpp"

namespace treadle {

at::Tensor image_of(const Sample& sample, const std::string& field) {
  const Value* value = sample.find(field);
  if (!value) throw FormatError(fmt::format("the sample has no field \"{}\" to transform", field));
  if (!value->is(Value::Type::tensor) || value->as_tensor().dim() != 3) {
    throw FormatError(fmt::format("the field \"{}\" must be a tensor of shape (C, H, W), found {}", field, describe(*value)));
  }
  return value->as_tensor();
}

at::Tensor boxes_of(const Sample& sample, const std::string& field) {
  const Value* value = sample.find(field);
  if (!value) return {};
  if (!value->is(Value::Type::tensor) || value->as_tensor().dim() != 2 || value->as_tensor().size(1) != 4) {
    throw FormatError(fmt::format("the field \"{}\" must be a tensor of shape (N, 4), found {}", field, describe(*value)));
  }
  const at::Tensor& boxes = value->as_tensor();
  return boxes.scalar_type() == at::kDouble ? boxes : boxes.to(at::kFloat);
}

Sample with_boxes_kept(Sample sample, const std::string& field) {
  if (at::Tensor boxes = boxes_of(sample, field); boxes.defined()) sample.set(field, std::move(boxes));
  return sample;
}

void require_option(bool good, const char* key, const std::string& range, double found) {
  if (!good) throw ConfigError(fmt::format("{} must be {}, found {}", key, range, found), key);
}

namespace {

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
  require_option(options.probability >= 0 && options.probability <= 1, "RandomFlipOptions.probability", "in [0, 1]",
                 options.probability);
}

Transform random_flip(RandomFlipOptions options) {
  validate(options);
  return [options = std::move(options)](Sample sample, Rng& rng) {
    const at::Tensor image = image_of(sample, options.field);
    if (!rng.chance(options.probability)) return with_boxes_kept(std::move(sample), options.boxes);
    if (options.vertical) {
      sample.set(options.field, image.flip(1));
      move_boxes(sample, options.boxes, [height = static_cast<double>(image.size(1))](std::vector<at::Tensor>& corners) {
        const at::Tensor top = corners[3].neg().add(height);
        corners[3] = corners[1].neg().add(height);
        corners[1] = top;
      });
      return sample;
    }
    sample.set(options.field, mirrored(image.contiguous()));
    move_boxes(sample, options.boxes, [width = static_cast<double>(image.size(2))](std::vector<at::Tensor>& corners) {
      const at::Tensor left = corners[2].neg().add(width);
      corners[2] = corners[0].neg().add(width);
      corners[0] = left;
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
    require_option(size >= 0, "ResizeShortestEdgeOptions.sizes", "at least 0 (0: as it is)", static_cast<double>(size));
  if (options.range) {
    require_option(options.sizes[0] <= options.sizes[1], "ResizeShortestEdgeOptions.sizes", "in ascending order",
                   static_cast<double>(options.sizes[1]));
  }
  require_option(options.max_size >= 0, "ResizeShortestEdgeOptions.max_size", "at least 0",
                 static_cast<double>(options.max_size));
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
  return (own_type ? result : result.round().to(type)).contiguous();
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
    if (size == 0) return with_boxes_kept(std::move(sample), options.boxes);
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

void validate(const NormalizeOptions& options) {
  if (options.mean.empty() || options.mean.size() != options.std.size()) {
    throw ConfigError(
        fmt::format("NormalizeOptions.mean and NormalizeOptions.std must have one number per channel each, found {} and {}",
                    options.mean.size(), options.std.size()),
        "NormalizeOptions.mean");
  }
  for (double mean : options.mean) require_option(std::isfinite(mean), "NormalizeOptions.mean", "finite", mean);
  for (double std : options.std) require_option(std::isfinite(std) && std > 0, "NormalizeOptions.std", "finite and above 0", std);
}

Transform normalize(NormalizeOptions options) {
  validate(options);
  return [field = options.field, mean = per_channel(options.mean), std = per_channel(options.std)](Sample sample, Rng&) {
    const at::Tensor image = image_of(sample, field);
    if (mean.size(0) != 1 && mean.size(0) != image.size(0)) {
      throw FormatError(fmt::format("the image has {} channels, NormalizeOptions.mean has {}", image.size(0), mean.size(0)));
    }
    sample.set(field, image.contiguous().to(at::kFloat).sub(mean).div(std));
    return sample;
  };
}

}  // namespace treadle

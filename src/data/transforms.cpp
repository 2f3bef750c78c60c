#include <treadle/base/errors.hpp>
#include <treadle/data/transforms.hpp>

#include <ATen/ops/empty.h>
#include <ATen/ops/full.h>
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
    if (rng.chance(options.probability)) sample.set(options.field, mirrored(image));
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

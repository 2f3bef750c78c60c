#include <algorithm>
#include <cmath>
#include <type_traits>

#include "data/transform_image.hpp"

namespace treadle {

void validate(const ColorJitterOptions& options) {
  const auto check = [](const char* key, double value) {
    require_option(std::isfinite(value) && value >= 0, key, "at least 0", value);
  };
  check("ColorJitterOptions.brightness", options.brightness);
  check("ColorJitterOptions.contrast", options.contrast);
  check("ColorJitterOptions.saturation", options.saturation);
  require_option(options.hue >= 0 && options.hue <= 0.5, "ColorJitterOptions.hue", "in [0, 0.5]", options.hue);
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

/// A colour with its hue turned by `turn` of the circle. Saturation and value (the largest channel) stay, and with them the
/// smallest channel: only the place between the two moves.
template <class Number>
void turn_hue(Number& r, Number& g, Number& b, Number turn) {
  const Number value = std::max({r, g, b}), range = value - std::min({r, g, b});
  if (range == 0) return;  // grey has no hue
  const Number sixths = value == r ? (g - b) / range : value == g ? 2 + (b - r) / range : 4 + (r - g) / range;
  const Number hue = std::fmod(sixths / 6 + turn + 1, Number(1));  // sixths is in [-1, 5], turn in [-0.5, 0.5]
  // How far each channel is below `value`, in parts of `range`: a trapezoid over the circle.
  const auto channel = [&](Number offset) {
    const Number place = std::fmod(offset + hue * 6, Number(6));
    return value - range * std::clamp(std::min(place, 4 - place), Number(0), Number(1));
  };
  r = channel(5);
  g = channel(3);
  b = channel(1);
}

at::Tensor with_hue_turned(const at::Tensor& image, double turn) {
  const at::ScalarType type = image.scalar_type();
  const bool wide = type == at::kDouble;
  at::Tensor result = image.to(wide ? at::kDouble : at::kFloat, /*non_blocking=*/false, /*copy=*/true).contiguous();
  const std::int64_t pixels = result.size(1) * result.size(2);
  const auto turn_all = [&](auto* channels) {
    using Number = std::remove_reference_t<decltype(*channels)>;
    for (std::int64_t i = 0; i < pixels; ++i)
      turn_hue(channels[i], channels[pixels + i], channels[2 * pixels + i], static_cast<Number>(turn));
  };
  if (wide) {
    turn_all(result.mutable_data_ptr<double>());
  } else {
    turn_all(result.mutable_data_ptr<float>());
  }
  return result.to(type);
}

struct Jitter {
  double brightness, contrast, saturation, hue;
};

at::Tensor jittered(at::Tensor image, const Jitter& jitter, double most) {
  if (jitter.brightness != 1) image = image.mul(jitter.brightness).clamp_(0, most);
  if (jitter.contrast != 1) image = mix(image, grey_of(image).mean(), jitter.contrast, most);
  if (image.size(0) == 1) return image;
  if (jitter.saturation != 1) image = mix(image, grey_of(image), jitter.saturation, most);
  if (jitter.hue != 0) image = with_hue_turned(image, jitter.hue);
  return image;
}

}  // namespace

Transform color_jitter(ColorJitterOptions options) {
  validate(options);
  return [options = std::move(options)](Sample sample, Rng& rng) {
    const at::Tensor image = image_of(sample, options.field).contiguous();
    if (image.size(0) != 1 && image.size(0) != 3)
      throw FormatError(fmt::format("an image must have 1 or 3 channels for color_jitter, found {}", image.size(0)));
    const bool bytes = image.scalar_type() == at::kByte;
    if (!bytes && !image.is_floating_point())
      throw FormatError(fmt::format("color_jitter needs a uint8 or floating-point image, found {}", describe(image)));
    const auto factor = [&](double strength) {
      const double drawn = rng.uniform(std::max(0.0, 1 - strength), 1 + strength);
      return strength == 0 ? 1.0 : drawn;
    };
    Jitter jitter{};
    jitter.brightness = factor(options.brightness);
    jitter.contrast = factor(options.contrast);
    jitter.saturation = factor(options.saturation);
    jitter.hue = rng.uniform(-options.hue, options.hue);
    if (jitter.brightness == 1 && jitter.contrast == 1 && jitter.saturation == 1 && jitter.hue == 0) return sample;
    const at::Tensor changed = jittered(bytes ? image.to(at::kFloat) : image, jitter, bytes ? 255 : 1);
    sample.set(options.field, bytes ? changed.round().to(at::kByte) : changed);
    return sample;
  };
}

}  // namespace treadle

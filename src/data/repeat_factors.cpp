#include <treadle/base/errors.hpp>
#include <treadle/data/training_samplers.hpp>

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <set>

namespace treadle {

std::vector<float> repeat_factors_from_category_frequency(std::span<const std::vector<std::int64_t>> categories_of_image,
                                                          double threshold, bool square_root) {
  if (!(threshold >= 0)) throw ConfigError(fmt::format("threshold must be at least 0, found {}", threshold), "threshold");
  std::map<std::int64_t, double> factor;
  for (const auto& categories : categories_of_image) {
    for (std::int64_t category : std::set(categories.begin(), categories.end())) factor[category] += 1;
  }
  for (auto& [category, value] : factor) {
    const double frequency = value / static_cast<double>(categories_of_image.size());
    const double ratio = threshold / frequency;
    value = std::max(1.0, square_root ? std::sqrt(ratio) : ratio);
  }
  std::vector<float> factors;
  factors.reserve(categories_of_image.size());
  for (const auto& categories : categories_of_image) {
    double greatest = 1;
    for (std::int64_t category : categories) greatest = std::max(greatest, factor[category]);
    factors.push_back(static_cast<float>(greatest));
  }
  return factors;
}

}  // namespace treadle

#include <treadle/base/errors.hpp>
#include <treadle/hooks/metric_mode.hpp>

#include <cmath>

namespace treadle::hooks {

std::string_view to_string(MetricMode mode) noexcept { return mode == MetricMode::max ? "max" : "min"; }

MetricMode metric_mode_from_string(const std::string& text) {
  if (text == "max") return MetricMode::max;
  if (text == "min") return MetricMode::min;
  throw ConfigError("the mode of a metric is \"" + text + "\"; expected \"max\" or \"min\"");
}

bool is_better(double value, double other, MetricMode mode, double min_delta) noexcept {
  if (!std::isfinite(value)) return false;
  return mode == MetricMode::max ? value > other + min_delta : value < other - min_delta;
}

}  // namespace treadle::hooks

#pragma once

#include <string>
#include <string_view>

namespace treadle::hooks {

/// Which values of a metric are good ones: the large (accuracy) or the small (error).
enum class MetricMode { max, min };

std::string_view to_string(MetricMode mode) noexcept;
/// Reads "max" or "min"; throws ConfigError for anything else.
MetricMode metric_mode_from_string(const std::string& text);

/// True when `value` is better than `other` by more than `min_delta`; a value that is not finite never is.
bool is_better(double value, double other, MetricMode mode, double min_delta = 0) noexcept;

}  // namespace treadle::hooks

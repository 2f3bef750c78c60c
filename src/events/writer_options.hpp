#pragma once

#include <treadle/base/errors.hpp>

#include <chrono>
#include <cstdint>
#include <string>

namespace treadle {

/// Throws ConfigError that names `field` when `window` is not positive.
inline void check_window(std::int64_t window, const std::string& field) {
  if (window < 1) throw ConfigError(field + " must be at least 1, not " + std::to_string(window), field);
}

/// The same when `delay` is negative.
inline void check_delay(std::chrono::milliseconds delay, const std::string& field) {
  if (delay.count() < 0) throw ConfigError(field + " must be at least 0 ms, not " + std::to_string(delay.count()), field);
}

}  // namespace treadle

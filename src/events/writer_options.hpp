#pragma once

#include <treadle/base/errors.hpp>

#include <cstdint>
#include <string>

namespace treadle {

/// Throws ConfigError that names `field` when `window` is not positive.
inline void check_window(std::int64_t window, const std::string& field) {
  if (window < 1) throw ConfigError(field + " must be at least 1, not " + std::to_string(window), field);
}

}  // namespace treadle

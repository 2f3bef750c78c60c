#pragma once

// What every benchmark that compares two sides needs.

#include <algorithm>
#include <chrono>
#include <functional>
#include <vector>

namespace treadle {

/// How long `run` takes.
inline double seconds(const std::function<void()>& run) {
  const auto start = std::chrono::steady_clock::now();
  run();
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

/// The upper one of two in the middle.
inline double median(std::vector<double> values) {
  const auto place = values.begin() + static_cast<std::ptrdiff_t>(values.size() / 2);
  std::nth_element(values.begin(), place, values.end());
  return *place;
}

}  // namespace treadle

#pragma once

#include <algorithm>
#include <chrono>
#include <limits>

namespace treadle {

/// The monotonic clock that all processes of a machine share.
using Clock = std::chrono::steady_clock;

/// What poll(2) takes for "until `deadline`": rounded up, so that the deadline has passed when it returns.
inline int poll_timeout(Clock::time_point deadline) {
  if (deadline == Clock::time_point::max()) return -1;
  const auto left = std::chrono::ceil<std::chrono::milliseconds>(deadline - Clock::now()).count();
  return static_cast<int>(std::clamp<decltype(left)>(left, 0, std::numeric_limits<int>::max()));
}

}  // namespace treadle

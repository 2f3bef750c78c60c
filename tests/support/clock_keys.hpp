#pragma once

#include <array>

namespace treadle {

/// The metrics that tell of time: the only ones that may differ between a run that was stopped and resumed and one that was not.
inline constexpr std::array kClockKeys = {"time", "data_time", "rank_data_time", "eta_seconds"};

}  // namespace treadle

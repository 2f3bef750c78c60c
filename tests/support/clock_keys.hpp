#pragma once

#include <array>

namespace treadle {

/// The metrics that tell of time, of all hooks and writers: the only ones that may differ between a run that was stopped and
/// resumed and one that was not.
inline constexpr std::array kClockKeys = {"time",        "data_time",        "rank_data_time",
                                          "eta_seconds", "data_decode_time", "data_collate_time"};

}  // namespace treadle

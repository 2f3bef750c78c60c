#pragma once

#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace treadle {

/// Up to `count` of `candidates` that a typing error may have turned into `word`, the nearest first: within one edit, or a third
/// of its length in edits (insert, delete, replace, swap neighbours), letter case ignored, or equal to `word` behind their last
/// dot or slash.
std::vector<std::string> nearest_names(std::string_view word, std::span<const std::string> candidates, std::size_t count = 3);

/// ` (did you mean "A" or "B"?)`, or nothing when no candidate is near.
std::string did_you_mean(std::string_view word, std::span<const std::string> candidates);

/// `"a", "b" and "c"`; `none` when empty.
std::string quoted_list(std::span<const std::string> names);

/// A duration as people read it: `0:00:07`, `1:02:03`, `2 days, 0:00:00` (as Python's `datetime.timedelta` of whole seconds).
/// Below 0 and NaN as 0; above the longest timedelta, 999999999 days, as that.
std::string format_duration(double seconds);

}  // namespace treadle

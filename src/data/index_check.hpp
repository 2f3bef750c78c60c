#pragma once

#include <cstdint>

namespace treadle {

/// Throws Error unless `index` is in [0, size).
void check_index(std::int64_t index, std::int64_t size);

}  // namespace treadle

#pragma once

#include <optional>

namespace treadle {

/// The most bytes that tensors took at once on this process's accelerator; nothing when it has none, or it keeps no such count.
std::optional<double> peak_device_memory();

}  // namespace treadle

#pragma once

#include <treadle/base/value.hpp>

#include <c10/core/Storage.h>

#include <string>
#include <vector>

namespace treadle {

/// The pickle of a Value, protocol 2, and the storages its tensors refer to: number i is the record "data/i".
struct PickledValue {
  std::string pickle;
  std::vector<c10::Storage> storages;
};

/// Throws FormatError for what the format cannot hold, and names it.
PickledValue pickle_value(const Value& value);

}  // namespace treadle

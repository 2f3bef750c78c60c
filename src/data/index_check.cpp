#include "data/index_check.hpp"

#include <treadle/base/errors.hpp>

#include <fmt/format.h>

namespace treadle {

void check_index(std::int64_t index, std::int64_t size) {
  if (index < 0 || index >= size) throw Error(fmt::format("there is no sample {} in a data set of {}", index, size));
}

}  // namespace treadle

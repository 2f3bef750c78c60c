#pragma once

#include "rules.hpp"

#include <gtest/gtest.h>

#include <string>
#include <vector>

namespace treadle::architecture {

/// Fails the running test once for each violation, with file and line as an editor finds them.
inline void expect_none(const std::vector<Violation>& violations) {
  for (const Violation& violation : violations) ADD_FAILURE() << to_string(violation);
}

}  // namespace treadle::architecture

#pragma once

#include <treadle/base/value.hpp>

#include <string>

namespace treadle {

class Group;

/// Throws the same ConfigError on all ranks when `facts` (names and what they stand for) are not equal on all of them. It names
/// the first rank that differs from rank 0, and one fact in which it does: `rank 3 was started with another config than rank 0:
/// SOLVER.BASE_LR is 0.1 there and 0.05 on rank 0`. `what` is the noun of that message. A collective.
void require_agreement(Group& group, const std::string& what, const Dict& facts);

}  // namespace treadle

#pragma once

#include <treadle/engine/step_exchange.hpp>

namespace treadle {

/// `to = from`, which writes no names that are there already: a loop has the same ones in every step.
inline void assign(const NamedNumbers& from, NamedNumbers& to) {
  to.resize(from.size());
  for (std::size_t i = 0; i < from.size(); ++i) {
    if (to[i].first != from[i].first) to[i].first = from[i].first;
    to[i].second = from[i].second;
  }
}

}  // namespace treadle

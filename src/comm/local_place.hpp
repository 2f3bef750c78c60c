#pragma once

#include <cstddef>
#include <optional>
#include <sstream>
#include <string>
#include <string_view>
#include <vector>

namespace treadle {

/// Which of the processes of its machine a rank is, and how many they are, as it was started.
struct LocalPlace {
  int rank = 0, size = 0;
};

inline std::string write_place(const LocalPlace& place) { return std::to_string(place.rank) + ' ' + std::to_string(place.size); }
inline LocalPlace read_place(std::string_view text) {
  std::istringstream stream{std::string(text)};
  LocalPlace place;
  stream >> place.rank >> place.size;
  return place;
}

/// A rank that does not stand where its local place says, none when all do: the ranks of a machine follow one another, with local
/// ranks from 0 up to their number.
inline std::optional<std::size_t> out_of_place(const std::vector<LocalPlace>& places) {
  LocalPlace next;
  for (std::size_t rank = 0; rank < places.size(); ++rank) {
    if (next.rank == next.size) next = {0, places[rank].size};  // the first of its machine
    if (places[rank].rank != next.rank || places[rank].size != next.size) return rank;
    ++next.rank;
  }
  return next.rank == next.size ? std::nullopt : std::optional(places.size() - 1);
}

}  // namespace treadle

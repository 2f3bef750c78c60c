#include <treadle/base/errors.hpp>
#include <treadle/base/value.hpp>
#include <treadle/comm/group.hpp>
#include <treadle/launch/agreement.hpp>

#include <fmt/format.h>

namespace treadle {
namespace {

struct Difference {
  std::string first;  // the fact, as the message tells it
  int count = 0;
};

void add(Difference& difference, const std::string& text) {
  if (difference.count++ == 0) difference.first = text;
}

/// How `other` differs from `reference`, the facts of rank 0.
Difference compare(const Dict& other, const Dict& reference) {
  Difference difference;
  for (const auto& [name, value] : other) {
    const Value* found = reference.find(name);
    if (found == nullptr) {
      add(difference, fmt::format("{} is {} there and not set on rank 0", name.to_string(), describe(value)));
    } else if (!identical(value, *found)) {
      add(difference, fmt::format("{} is {} there and {} on rank 0", name.to_string(), describe(value), describe(*found)));
    }
  }
  for (const auto& [name, value] : reference) {
    if (!other.contains(name))
      add(difference, fmt::format("{} is not set there and {} on rank 0", name.to_string(), describe(value)));
  }
  return difference;
}

}  // namespace

void require_agreement(Group& group, const std::string& what, const Dict& facts) {
  if (group.get_world_size() == 1) return;
  const List all = group.all_gather(Value(facts));
  for (std::size_t rank = 1; rank < all.size(); ++rank) {
    const Difference difference = compare(all[rank].as_dict(), all[0].as_dict());
    if (difference.count == 0) continue;
    throw ConfigError(fmt::format("rank {} was started with another {} than rank 0: {}{}", rank, what, difference.first,
                                  difference.count > 1 ? fmt::format(" (and {} more)", difference.count - 1) : ""));
  }
}

}  // namespace treadle

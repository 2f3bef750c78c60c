#pragma once

#include <treadle/comm/group.hpp>

#include <memory>
#include <optional>

namespace treadle {

/// A null group stands for a process alone.
inline int rank_of(const std::shared_ptr<Group>& group) noexcept { return group ? group->get_rank() : 0; }
inline int world_size_of(const std::shared_ptr<Group>& group) noexcept { return group ? group->get_world_size() : 1; }

/// The bits of `seed`, or without one a random number that all ranks share (a collective).
std::uint64_t seed_or_shared(std::optional<std::int64_t> seed, const std::shared_ptr<Group>& group);

}  // namespace treadle

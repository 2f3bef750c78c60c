#pragma once

#include <treadle/comm/group.hpp>

#include <cstdint>
#include <memory>

namespace treadle {

// The functions of Detectron2's `comm` module. Each is the member function of Group that bears its name; in the group of a
// process alone all give copies and need no set-up.

int get_world_size(const Group& group) noexcept;
int get_rank(const Group& group) noexcept;
/// Among the processes of this machine.
int get_local_rank(const Group& group) noexcept;
int get_local_size(const Group& group) noexcept;
bool is_main_process(const Group& group) noexcept;

void synchronize(Group& group);
List all_gather(const Value& value, Group& group);
List gather(const Value& value, Group& group, int destination = 0);
std::uint64_t shared_random_seed(Group& group);
Dict reduce_dict(const Dict& numbers, Group& group, bool average = true);

/// Makes the group of the processes of each machine, which `get_local_process_group` gives from then on; needed again after
/// `rebuild`. A collective. Throws CommError when the world size is no multiple of `num_workers_per_machine` (at least 1).
void create_local_process_group(Group& group, int num_workers_per_machine);
/// The processes of this machine. Throws CommError before `create_local_process_group`.
std::shared_ptr<Group> get_local_process_group(const Group& group);

}  // namespace treadle

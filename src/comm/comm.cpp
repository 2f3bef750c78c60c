#include <treadle/base/errors.hpp>
#include <treadle/comm/comm.hpp>
#include <treadle/comm/gradient_reducer.hpp>

#include <fmt/format.h>

#include <numeric>

namespace treadle {

Group::Group() = default;
Group::~Group() = default;

std::shared_ptr<Group> Group::make_subgroup(const std::vector<int>&) {
  throw CommError("groups of this kind have no subgroups", get_rank(), "make_subgroup");
}

std::unique_ptr<GradientReducer> Group::make_gradient_reducer(const std::vector<NamedTensor>&, const GradientOptions&) {
  throw CommError("groups of this kind do not reduce gradients", get_rank(), "make_gradient_reducer");
}

int get_world_size(const Group& group) noexcept { return group.get_world_size(); }
int get_rank(const Group& group) noexcept { return group.get_rank(); }
int get_local_rank(const Group& group) noexcept { return group.get_local_rank(); }
int get_local_size(const Group& group) noexcept { return group.get_local_size(); }
bool is_main_process(const Group& group) noexcept { return group.is_main_process(); }
void synchronize(Group& group) { group.synchronize(); }
List all_gather(const Value& value, Group& group) { return group.all_gather(value); }
List gather(const Value& value, Group& group, int destination) { return group.gather(value, destination); }
std::uint64_t shared_random_seed(Group& group) { return group.shared_random_seed(); }
Dict reduce_dict(const Dict& numbers, Group& group, bool average) { return group.reduce_dict(numbers, average); }

void create_local_process_group(Group& group, int num_workers_per_machine) {
  constexpr const char* kOperation = "create_local_process_group";
  const int size = group.get_world_size();
  if (num_workers_per_machine < 1 || size % num_workers_per_machine != 0) {
    throw CommError(fmt::format("{} ranks cannot be {} on each machine", size, num_workers_per_machine), group.get_rank(),
                    kOperation);
  }
  std::vector<int> ranks(static_cast<std::size_t>(num_workers_per_machine));
  std::iota(ranks.begin(), ranks.end(), group.get_rank() / num_workers_per_machine * num_workers_per_machine);
  group.local_group_ = group.make_subgroup(ranks);
  group.local_group_generation_ = group.generation();
}

std::shared_ptr<Group> get_local_process_group(const Group& group) {
  if (!group.local_group_ || group.local_group_generation_ != group.generation()) {
    throw CommError("there is no local process group yet: call create_local_process_group first", group.get_rank(),
                    "get_local_process_group");
  }
  return group.local_group_;
}

}  // namespace treadle

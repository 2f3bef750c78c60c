#pragma once

#include <treadle/base/errors.hpp>
#include <treadle/comm/group.hpp>

#include <memory>

namespace treadle {

/// A group that says it is `rank` of `world_size`, to try in one process what each rank would do. Its only collective is the
/// shared seed.
class FixedGroup final : public Group {
 public:
  FixedGroup(int own_rank, int ranks, std::uint64_t seed = 0) : rank(own_rank), world_size(ranks), shared_seed(seed) {}

  int get_rank() const noexcept override { return rank; }
  int get_world_size() const noexcept override { return world_size; }
  int get_local_rank() const noexcept override { return rank; }
  int get_local_size() const noexcept override { return world_size; }
  std::int64_t generation() const noexcept override { return 0; }
  void synchronize() override { refuse(); }
  List all_gather(const Value&) override { refuse(); }
  List gather(const Value&, int) override { refuse(); }
  Value broadcast(const Value&, int) override { refuse(); }
  std::uint64_t shared_random_seed() override { return shared_seed; }
  Dict reduce_dict(const Dict&, bool) override { refuse(); }
  void start_step_exchange(std::span<const double>) override { refuse(); }
  const StepRows& wait_step_exchange() override { refuse(); }
  void mark_broken(const std::string&) override {}
  bool is_broken() const noexcept override { return false; }
  void rebuild() override { refuse(); }

  int rank;
  int world_size;
  std::uint64_t shared_seed;

 private:
  [[noreturn]] void refuse() { throw CommError("a FixedGroup talks to nobody", rank, "collective"); }
};

inline std::shared_ptr<Group> fixed_group(int rank, int world_size) { return std::make_shared<FixedGroup>(rank, world_size); }

}  // namespace treadle

#pragma once

#include <treadle/base/value.hpp>

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

namespace treadle {

class GradientReducer;
struct GradientOptions;
struct NamedTensor;

/// One row of numbers per rank, as the packed exchange of a step returns it: `rows[rank][i]`.
using StepRows = std::vector<std::vector<double>>;

/// The processes that train together, and what they say to each other. Every collective is called by all ranks in the same order.
///
/// Rank and size are read from here whenever they are needed, never stored: a group may be rebuilt after the loss of a worker.
/// Collectives belong to the loop thread; the queries and `mark_broken` may be called by any thread.
/// Once a group is broken every collective throws CommError at once, so that nothing waits for a rank that will not come.
class Group {
 public:
  virtual ~Group();
  Group(const Group&) = delete;
  Group& operator=(const Group&) = delete;

  virtual int get_rank() const noexcept = 0;
  virtual int get_world_size() const noexcept = 0;
  /// Rank and number of the processes on this machine.
  virtual int get_local_rank() const noexcept = 0;
  virtual int get_local_size() const noexcept = 0;
  bool is_main_process() const noexcept { return get_rank() == 0; }
  /// How often the group has been rebuilt.
  virtual std::int64_t generation() const noexcept = 0;

  /// Returns when every rank has called it.
  virtual void synchronize() = 0;
  /// The value of every rank, in rank order, on every rank.
  virtual List all_gather(const Value& value) = 0;
  /// The value of every rank, in rank order, on rank `destination`; an empty List elsewhere.
  virtual List gather(const Value& value, int destination = 0) = 0;
  /// The value of rank `source`, on every rank.
  virtual Value broadcast(const Value& value, int source = 0) = 0;
  /// A number that is the same on all ranks, in [0, 2^31): the next `random_seed()` of rank 0, so that `seed_everything` settles
  /// it too; each rank draws one.
  virtual std::uint64_t shared_random_seed() = 0;
  /// Numbers by name (numbers or scalar tensors), averaged or summed over the ranks as doubles, on rank 0; the input elsewhere.
  /// There a number has become a double; a tensor keeps its shape, and its dtype when it is floating: of integers and bools the
  /// average is of float64, the sum of int64. Throws Error that names what is neither number nor scalar tensor, on every rank.
  /// The names must be the same, in the same order, on all ranks, as in Detectron2: where they are not, rank 0 alone throws
  /// CommError, and the others return.
  virtual Dict reduce_dict(const Dict& numbers, bool average = true) = 0;

  /// Begins the packed exchange of a step: `row` of every rank goes to every rank while other work goes on. One at a time;
  /// throws CommError when one is under way. `row` has the same length on all ranks.
  virtual void start_step_exchange(std::span<const double> row) = 0;
  /// Waits for the exchange begun before. The rows are valid until the next `start_step_exchange`.
  virtual const StepRows& wait_step_exchange() = 0;

  /// Makes every later collective throw CommError with `reason`. The first reason stays. Subgroups are groups of their own, which
  /// this does not reach.
  virtual void mark_broken(const std::string& reason) = 0;
  virtual bool is_broken() const noexcept = 0;
  /// Makes a broken group usable again, with a new generation number. A collective of the ranks that are left, whose ranks and
  /// number may be others than before. Gradient reducers of the generation before stay broken; its subgroups break when one of
  /// their own calls fails.
  virtual void rebuild() = 0;

  /// A group of some of the ranks, which are numbered in it as `ranks` lists them. A collective of the ranks listed alone, who
  /// give the same list. Throws CommError when this rank is not in it. The base class throws CommError.
  virtual std::shared_ptr<Group> make_subgroup(const std::vector<int>& ranks);
  /// What averages the gradients of `parameters` over the ranks; null in a process alone. A collective of all ranks. Throws
  /// ConfigError for options out of range, CommError when no parameter needs a gradient. The base class throws CommError.
  virtual std::unique_ptr<GradientReducer> make_gradient_reducer(const std::vector<NamedTensor>& parameters,
                                                                 const GradientOptions& options);

 protected:
  Group();

 private:
  friend void create_local_process_group(Group& group, int num_workers_per_machine);
  friend std::shared_ptr<Group> get_local_process_group(const Group& group);
  std::shared_ptr<Group> local_group_;
  std::int64_t local_group_generation_ = 0;
};

/// The group of a process that trains alone: every collective gives a copy and needs no set-up. As among several, tensors of the
/// results share no memory with those that were given, and need no gradient; they stay on their device and in their layout.
std::shared_ptr<Group> make_single_process_group();

}  // namespace treadle

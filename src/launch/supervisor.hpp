#pragma once

#include <launch/nursery.hpp>
#include <launch/outcome.hpp>
#include <launch/rank_output.hpp>
#include <launch/reports.hpp>
#include <launch/signals.hpp>

#include <chrono>
#include <map>
#include <set>
#include <vector>

namespace treadle {

struct SupervisorOptions {
  int num_processes = 1;
  int first_rank = 0;  ///< the global rank of local rank 0
  std::chrono::milliseconds grace_time{};
  std::chrono::milliseconds timeout{};
};

/// Watches the ranks of this machine through one generation: from their start until none of their descendants is left. The first
/// failure stops the others; signals of the launcher are passed on. Launcher's thread only.
class Supervisor {
 public:
  Supervisor(Nursery& nursery, const ReportChannel& reports, const SignalInbox& signals, const SupervisorOptions& options)
      : nursery_(nursery), reports_(reports), signals_(signals), options_(options) {}

  /// Throws Error when the nursery was killed.
  Outcome run(std::int64_t generation);
  /// The signal by which the user ended the run, after which nothing is started again; 0 without one.
  int interrupted_by() const noexcept { return interrupted_by_; }
  /// Takes what has come while nothing runs: a signal of the user ends a wait. Returns at `deadline`, or when there was one.
  void wait_until(Clock::time_point deadline);

 private:
  struct Rank {
    bool ended = false;
    bool reported = false;
    int stopped_by = 0;  ///< the signal
  };
  void step();
  void take(const RankReport& report);
  void take(const Nursery::News& news);
  void take_end(Rank& rank, const Nursery::News& news);
  void take_signal(int number);
  void fail(Failure failure);
  void tell_all_to_end();
  /// True for the status of a rank that a signal from here has ended.
  bool ended_by_us(int status);
  void sweep();
  void expire();
  Outcome decide() const;
  int global(int local_rank) const noexcept { return options_.first_rank + local_rank; }

  Nursery& nursery_;
  const ReportChannel& reports_;
  const SignalInbox& signals_;
  SupervisorOptions options_;

  std::int64_t generation_ = 0;
  std::vector<Rank> ranks_;
  std::vector<Failure> failures_;
  std::string stopped_note_{};  ///< who was stopped at the first failure
  std::set<int> sent_;          ///< signals that the ranks have got from here
  Clock::time_point kill_at_ = Clock::time_point::max();
  Clock::time_point lost_at_ = Clock::time_point::max();  ///< when ranks that are stopped count as lost
  int interrupted_status_ = 0;                            ///< of a rank that ended as the user wished
  bool running_ = false;
  bool told_to_end_ = false;
  bool sweeping_ = false;
  bool swept_ = false;
  int interrupted_by_ = 0;
};

}  // namespace treadle

#pragma once

#include <launch/dist_url.hpp>
#include <treadle/launch/launch.hpp>

#include <chrono>
#include <cstdint>
#include <string>

namespace treadle {

/// One process of a run among the others.
struct WorkerPlace {
  int rank = 0;
  int world_size = 1;
  int local_rank = 0;
  int local_size = 1;
  std::int64_t generation = 0;
  DistUrl url{};               ///< of a store that is served, or a file
  std::string store_keeper{};  ///< whose process serves it
  std::chrono::milliseconds timeout{};
  bool check_order = false;  ///< as in ConnectOptions
};

/// Joins the group, makes the group of this machine, takes the device of this local rank where there is one, and its share of the
/// cores unless OMP_NUM_THREADS is set, waits for the others, and then runs `main`. `group` is set as soon as there is one.
/// Errors of joining show the address.
int distributed_worker(const RankMain& main, const WorkerPlace& place, std::shared_ptr<Group>& group);

/// The same in a process that something else has started; rank 0 serves the store unless that exists.
int run_started_rank(const RankMain& main, const StartedRank& started, const LaunchOptions& options);

}  // namespace treadle

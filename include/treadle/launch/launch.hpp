#pragma once

#include <treadle/comm/group.hpp>

#include <functional>
#include <memory>

namespace treadle {

struct LaunchOptions {
  int num_processes = 1;  ///< on each machine, at least 1
  int num_machines = 1;   ///< at least 1
  int machine_rank = 0;   ///< in [0, num_machines)
};
/// Throws ConfigError that names the field. This version runs one process: more are refused.
void validate(const LaunchOptions& options);

/// What runs on every rank; its result is the exit status of the process.
using RankMain = std::function<int(std::shared_ptr<Group>)>;

/// Starts the processes of a run and returns the exit status of rank 0: with one process, `main` runs in this one.
/// Exceptions of `main` pass through. Call it once, from the main thread.
int launch(const RankMain& main, const LaunchOptions& options = {});

}  // namespace treadle

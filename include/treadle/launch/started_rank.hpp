#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>

namespace treadle {

/// A process that something else has started as one of many.
struct StartedRank {
  std::string by;  ///< "torchrun", "srun" or "mpirun"
  int rank = 0;
  int world_size = 1;
  int local_rank = 0;
  int local_size = 1;
  std::string dist_url{};       ///< `tcp://HOST:PORT`; empty when the environment does not tell
  bool store_runs = false;      ///< a store listens at `dist_url` already; otherwise rank 0 opens it
  std::int64_t generation = 0;  ///< how often the processes were started before
  /// The same on all processes of a run and on no other's; empty when the environment does not tell.
  std::string run{};
};

/// The value of an environment variable.
using EnvironmentReader = std::function<std::optional<std::string>(const std::string& name)>;
std::optional<std::string> read_environment(const std::string& name);

/// Reads what `torchrun` (RANK, WORLD_SIZE, LOCAL_RANK, LOCAL_WORLD_SIZE, MASTER_ADDR, MASTER_PORT, TORCHELASTIC_*), Open MPI's
/// `mpirun` (OMPI_COMM_WORLD_*, PMIX_NAMESPACE) or Slurm's `srun` (SLURM_PROCID, SLURM_STEP_NUM_TASKS, SLURM_LOCALID,
/// SLURM_NODEID, SLURM_STEP_TASKS_PER_NODE, SLURM_STEP_NODELIST, SLURM_JOB_ID, SLURM_STEP_ID) left in the environment, in this
/// order, since the former two may run on top of the latter; nothing when none of them did. MASTER_ADDR and MASTER_PORT tell the
/// address under all three; under `srun` alone it is made of the first node and the numbers of job and step. Throws ConfigError
/// that names the variable which is missing or makes no sense. Any thread.
std::optional<StartedRank> started_rank(const EnvironmentReader& environment = read_environment);

}  // namespace treadle

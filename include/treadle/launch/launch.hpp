#pragma once

#include <treadle/base/errors.hpp>
#include <treadle/comm/group.hpp>

#include <chrono>
#include <filesystem>
#include <functional>
#include <memory>
#include <string>

namespace treadle {

/// Which processes train together. Every machine gives the same numbers, but for its `machine_rank`.
struct LaunchOptions {
  int num_processes = 1;  ///< on each machine, at least 1
  int num_machines = 1;   ///< at least 1
  int machine_rank = 0;   ///< in [0, num_machines)
  /// Where the processes meet: `tcp://HOST:PORT`, an address of machine 0; `file://PATH`, a file that all machines see and that
  /// does not exist yet; `env://`, the address in MASTER_ADDR and MASTER_PORT; `auto`, a free port of this machine, for one
  /// machine. A process that was started by others (`started_rank`) finds it in its environment when this is `auto`.
  std::string dist_url = "auto";
  /// How long a process or machine waits for others at a time: to join, for a message, for an answer. At least 1 ms; longer than
  /// `kLongestTimeout` counts as that.
  std::chrono::milliseconds timeout = std::chrono::minutes(30);
  /// What the processes that are told to stop get before they are killed. At least 0; as `timeout`.
  std::chrono::milliseconds grace_time = std::chrono::seconds(10);
  int max_restarts = 0;  ///< how often all processes are started again after one has failed, at least 0
  /// For debugging a program whose ranks call different things: every call waits for the others at once, and the error tells the
  /// calls before (ConnectOptions::check_order).
  bool check_order = false;
  /// Holds `rank_N.out`, what rank N writes to stdout and stderr, for every rank of this machine but rank 0, which writes to the
  /// terminal. Made when it is missing; empty for a folder that goes away with the run.
  std::filesystem::path log_folder{};
};
/// Throws ConfigError that names the field.
void validate(const LaunchOptions& options);

/// One of the processes failed, and so the run: an exception left `main`, or the process died. `what()` names the rank and its
/// own error.
class RankError : public Error {
 public:
  RankError(const std::string& message, int rank, int status) : Error(message), rank_(rank), status_(status) {}
  int rank() const noexcept { return rank_; }
  /// The exit status of the process; 128 + the number of the signal that killed it.
  int status() const noexcept { return status_; }

 private:
  int rank_;
  int status_;
};

/// What runs on every rank; its result is the exit status of the process. After a restart `generation()` of the group is not 0.
using RankMain = std::function<int(std::shared_ptr<Group>)>;

/// Starts the processes of a run, watches them, and returns 0, or the first exit status that is not 0. Call it once, from the
/// main thread, before the program starts any other thread (Error): the processes are forked.
///
/// One process that is not to be restarted: `main` runs in this one and its exceptions pass through. So it does when this process
/// was started by `torchrun`, `srun` or `mpirun`: it joins the others as their environment says. Otherwise this process becomes
/// the launcher. It holds the store at which the processes meet and forks, before anything else, a process of one thread whose
/// children they are, and which kills all of their descendants when the launcher is gone, even killed.
///
/// The first process to fail decides: the others get SIGTERM, after the grace time SIGKILL, and RankError is thrown, or all are
/// started again. A ConfigError is never tried again. SIGINT and SIGTERM of the launcher are passed on to the processes, once
/// each.
int launch(const RankMain& main, const LaunchOptions& options = {});

}  // namespace treadle

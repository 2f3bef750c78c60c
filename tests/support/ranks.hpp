#pragma once

#include <treadle/comm/process_group.hpp>

#include <chrono>
#include <functional>
#include <string>
#include <vector>

namespace treadle {

/// How one of the processes of `run_ranks` ended.
struct RankResult {
  int status = -1;     ///< its exit status; -1 when a signal killed it
  int signal = 0;      ///< that killed it, or SIGSTOP when it had stopped
  std::string said;    ///< what the body returned, or the message of what it threw
  double seconds = 0;  ///< until it ended
};

struct RanksOptions {
  std::chrono::milliseconds timeout = std::chrono::seconds(20);  ///< of the group
  std::chrono::seconds hard_limit{60};                           ///< then everybody is killed
  bool tcp = false;                                              ///< a TCPStore in a process of its own, not a file
  int local_size = 0;                                            ///< processes per "machine"; 0 for all
  bool check_order = false;
};

/// Runs `body` in `world_size` forked processes that form a group, and returns how each ended, by rank. A process whose body
/// failed an expectation of GoogleTest has the exit status 1, one that threw 2. All of them are gone on return.
/// Call it from a process of one thread, before LibTorch has started threads; throws std::runtime_error otherwise.
std::vector<RankResult> run_ranks(int world_size, const std::function<std::string(Group&)>& body,
                                  const RanksOptions& options = {});

/// The same before a group exists: `body` connects, or does not.
std::vector<RankResult> run_processes(int count, const std::function<std::string(const ConnectOptions&)>& body,
                                      const RanksOptions& options = {});

/// run_ranks, expecting that every body returns without a failure.
void expect_ranks(int world_size, const std::function<void(Group&)>& body, const RanksOptions& options = {});

}  // namespace treadle

#pragma once

#include <launch/nursery.hpp>

namespace treadle {

struct NurseryOrder {
  enum Kind : int { start, signal, sweep };
  int kind = start;
  std::int64_t value = 0;  ///< the generation, or the number of the signal
};

/// The life of the nursery, in its own process; `channel` leads to the launcher.
[[noreturn]] void run_nursery(Descriptor channel, int num_processes, const Nursery::RankBody& body, const sigset_t& rank_mask,
                              pid_t launcher) noexcept;

}  // namespace treadle

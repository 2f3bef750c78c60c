#pragma once

#include <sys/types.h>

#include <vector>

namespace treadle {

/// The processes of which `parent` is the parent, those that have ended and were not waited for included.
std::vector<pid_t> children_of(pid_t parent);

/// The children of `root`, their children and so on, read from /proc.
std::vector<pid_t> descendants_of(pid_t root);

/// The number of threads of this process.
int count_threads();

}  // namespace treadle

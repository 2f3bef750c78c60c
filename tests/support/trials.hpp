#pragma once

#include <cstdint>
#include <cstdlib>
#include <iostream>
#include <random>

namespace treadle {

/// How often a test of random moments tries: TRIALS in a run of tools/stress.py, which sets TREADLE_STRESS, else `otherwise`.
inline int trials(int otherwise) {
  const char* stress = std::getenv("TREADLE_STRESS");
  const char* count = std::getenv("TRIALS");
  return stress != nullptr && count != nullptr ? static_cast<int>(std::strtol(count, nullptr, 10)) : otherwise;
}

/// TREADLE_SEED; without it `otherwise`. Printed, so that a failure can be seen again.
inline std::uint32_t trial_seed(std::uint32_t otherwise = std::random_device()()) {
  const char* chosen = std::getenv("TREADLE_SEED");
  const std::uint32_t seed = chosen != nullptr ? static_cast<std::uint32_t>(std::strtoul(chosen, nullptr, 10)) : otherwise;
  std::cout << "seed " << seed << "\n";
  return seed;
}

}  // namespace treadle

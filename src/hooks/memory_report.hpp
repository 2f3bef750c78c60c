#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace treadle::hooks {

/// What a process on the CPU uses, in bytes; 0 where the system does not say.
struct HostMemory {
  std::int64_t resident = 0;
  std::int64_t max_resident = 0;
  std::int64_t reserved = 0;   ///< held by the C library's allocator
  std::int64_t allocated = 0;  ///< given out by it
};
HostMemory host_memory();

/// One counter of an accelerator's allocator.
struct MemoryCounter {
  std::string name;
  std::int64_t current = 0;
  std::int64_t peak = 0;
};
/// "reserved" and "allocated" first, in bytes, then more; nothing without an accelerator that counts.
std::optional<std::vector<MemoryCounter>> accelerator_memory();
/// Makes the peaks what is in use now.
void reset_accelerator_peaks();

/// The line of the log.
std::string memory_line(std::int64_t iteration, const HostMemory& memory);
std::string memory_line(std::int64_t iteration, const std::vector<MemoryCounter>& counters);
/// A line for each counter.
std::string memory_table(const HostMemory& memory);
std::string memory_table(const std::vector<MemoryCounter>& counters);

}  // namespace treadle::hooks

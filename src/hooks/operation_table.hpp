#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

namespace treadle::hooks {

/// Something that a profiler saw: an operation, work of a device, or memory taken or given back.
struct OperationEvent {
  std::string name;
  std::uint64_t thread = 0;
  std::int64_t start_ns = 0;
  std::int64_t end_ns = 0;
  bool on_device = false;  ///< work of an accelerator, which nests in nothing
  bool is_memory = false;  ///< `bytes` belong to the innermost operation of the thread at `start_ns`
  std::int64_t bytes = 0;
};

/// All calls of one operation together.
struct OperationCost {
  std::string name;
  std::int64_t calls = 0;
  std::int64_t self_ns = 0;  ///< without the operations inside it
  std::int64_t total_ns = 0;
  std::int64_t device_ns = 0;  ///< work of accelerators under this name
  std::int64_t bytes = 0;      ///< taken less given back, without the operations inside it
};

/// The costs by name, the largest first: by time of devices when there is any, otherwise by time of its own.
std::vector<OperationCost> operation_costs(std::vector<OperationEvent> events);

/// The first `rows` as lines for the log.
std::string operation_table(const std::vector<OperationCost>& costs, std::size_t rows);

}  // namespace treadle::hooks

#include "hooks/memory_report.hpp"

#include <treadle/base/device.hpp>

#include <fmt/format.h>
#include <torch/version.h>

#if TORCH_VERSION_MAJOR > 2 || TORCH_VERSION_MINOR >= 10
#define TREADLE_HAS_DEVICE_ALLOCATOR 1
#include <ATen/DeviceAccelerator.h>
#include <c10/core/CachingDeviceAllocator.h>
#include <c10/core/impl/VirtualGuardImpl.h>
#endif
#include <malloc.h>

#include <fstream>
#include <sstream>

namespace treadle::hooks {
namespace {

double mib(std::int64_t bytes) { return static_cast<double>(bytes) / 1024 / 1024; }

std::string table_row(const std::string& name, std::int64_t current, std::int64_t peak) {
  return fmt::format("\n{:<16} {:>11.1f} MiB {:>11.1f} MiB", name, mib(current), mib(peak));
}

constexpr const char* kTableHead = "memory                   now             at most";

#ifdef TREADLE_HAS_DEVICE_ALLOCATOR
struct AcceleratorAllocator {
  c10::DeviceAllocator* allocator = nullptr;
  c10::DeviceIndex device = 0;
};

AcceleratorAllocator accelerator_allocator() {
  if (accelerator_count() == 0) return {};
  const c10::DeviceType type = *at::getAccelerator(/*checked=*/false);
  auto* allocator = dynamic_cast<c10::DeviceAllocator*>(c10::GetAllocator(type));
  if (allocator == nullptr || !allocator->initialized()) return {};
  return {allocator, c10::impl::VirtualGuardImpl(type).getDevice().index()};
}
#endif

}  // namespace

HostMemory host_memory() {
  HostMemory memory;
  std::ifstream status("/proc/self/status");
  for (std::string line; std::getline(status, line);) {
    std::istringstream words(line);
    std::string name;
    std::int64_t kib = 0;
    words >> name >> kib;
    if (name == "VmRSS:") memory.resident = kib * 1024;
    if (name == "VmHWM:") memory.max_resident = kib * 1024;
  }
#if defined(__GLIBC__) && (__GLIBC__ > 2 || __GLIBC_MINOR__ >= 33)
  const struct mallinfo2 info = mallinfo2();
  memory.reserved = static_cast<std::int64_t>(info.arena + info.hblkhd);
  memory.allocated = static_cast<std::int64_t>(info.uordblks + info.hblkhd);
#endif
  return memory;
}

std::optional<std::vector<MemoryCounter>> accelerator_memory() {
#ifdef TREADLE_HAS_DEVICE_ALLOCATOR
  const AcceleratorAllocator found = accelerator_allocator();
  if (found.allocator == nullptr) return std::nullopt;
  const auto stats = found.allocator->getDeviceStats(found.device);
  const auto counter = [](const char* name, const auto& stat) {
    const auto& all = stat[static_cast<std::size_t>(c10::CachingAllocator::StatType::AGGREGATE)];
    return MemoryCounter{name, all.current, all.peak};
  };
  return std::vector{counter("reserved", stats.reserved_bytes), counter("allocated", stats.allocated_bytes),
                     counter("active", stats.active_bytes), counter("inactive split", stats.inactive_split_bytes)};
#else
  return std::nullopt;
#endif
}

void reset_accelerator_peaks() {
#ifdef TREADLE_HAS_DEVICE_ALLOCATOR
  if (const AcceleratorAllocator found = accelerator_allocator(); found.allocator != nullptr) {
    found.allocator->resetPeakStats(found.device);
  }
#endif
}

std::string memory_line(std::int64_t iteration, const HostMemory& memory) {
  return fmt::format(
      "iter: {}  max_resident_mem: {:.0f}MB  resident_mem: {:.0f}MB  reserved_mem: {:.0f}MB  allocated_mem: {:.0f}MB", iteration,
      mib(memory.max_resident), mib(memory.resident), mib(memory.reserved), mib(memory.allocated));
}

std::string memory_line(std::int64_t iteration, const std::vector<MemoryCounter>& counters) {
  const MemoryCounter& reserved = counters.at(0);
  const MemoryCounter& allocated = counters.at(1);
  return fmt::format(
      "iter: {}  max_reserved_mem: {:.0f}MB  reserved_mem: {:.0f}MB  max_allocated_mem: {:.0f}MB  allocated_mem: {:.0f}MB",
      iteration, mib(reserved.peak), mib(reserved.current), mib(allocated.peak), mib(allocated.current));
}

std::string memory_table(const HostMemory& memory) {
  return kTableHead + table_row("resident", memory.resident, memory.max_resident) +
         fmt::format("\n{:<16} {:>11.1f} MiB\n{:<16} {:>11.1f} MiB", "reserved", mib(memory.reserved), "allocated",
                     mib(memory.allocated));
}

std::string memory_table(const std::vector<MemoryCounter>& counters) {
  std::string table = kTableHead;
  for (const MemoryCounter& counter : counters) table += table_row(counter.name, counter.current, counter.peak);
  return table;
}

}  // namespace treadle::hooks

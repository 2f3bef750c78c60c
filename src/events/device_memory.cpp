#include <treadle/base/device.hpp>

#include <torch/version.h>

#if TORCH_VERSION_MAJOR > 2 || TORCH_VERSION_MINOR >= 10
#include <ATen/DeviceAccelerator.h>
#include <c10/core/CachingDeviceAllocator.h>
#include <c10/core/impl/VirtualGuardImpl.h>
#endif

#include "events/device_memory.hpp"

namespace treadle {

std::optional<double> peak_device_memory() {
#if TORCH_VERSION_MAJOR > 2 || TORCH_VERSION_MINOR >= 10
  if (accelerator_count() == 0) return std::nullopt;
  const c10::DeviceType type = *at::getAccelerator(/*checked=*/false);
  auto* allocator = dynamic_cast<c10::DeviceAllocator*>(c10::GetAllocator(type));
  if (allocator == nullptr || !allocator->initialized()) return std::nullopt;
  const auto stats = allocator->getDeviceStats(c10::impl::VirtualGuardImpl(type).getDevice().index());
  return static_cast<double>(stats.allocated_bytes[static_cast<std::size_t>(c10::CachingAllocator::StatType::AGGREGATE)].peak);
#else
  return std::nullopt;
#endif
}

}  // namespace treadle

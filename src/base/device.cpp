#include <treadle/base/device.hpp>
#include <treadle/base/errors.hpp>

#include <ATen/DeviceAccelerator.h>
#include <c10/core/impl/VirtualGuardImpl.h>
#include <fmt/format.h>

namespace treadle {
namespace {

std::optional<c10::DeviceType> accelerator_type() noexcept {
  try {
    return at::getAccelerator(/*checked=*/false);
  } catch (const std::exception&) {
    return std::nullopt;
  }
}

int count_devices(c10::DeviceType type) noexcept {
  try {
    return c10::impl::VirtualGuardImpl(type).deviceCount();
  } catch (const std::exception&) {
    return 0;
  }
}

/// The index that stands in the text of a device, 0 without one. LibTorch's own has 8 bits: of 256 it makes 0.
int written_index(const std::string& text) {
  const std::size_t colon = text.find(':');
  return colon == std::string::npos ? 0 : std::stoi(text.substr(colon + 1));
}

}  // namespace

int accelerator_count() noexcept {
  const auto type = accelerator_type();
  return type ? count_devices(*type) : 0;
}

c10::Device default_device(int local_rank) {
  const int count = accelerator_count();
  if (count == 0) return c10::kCPU;
  if (local_rank < 0 || local_rank >= count) {
    throw ConfigError(
        fmt::format("process {} of this machine needs an accelerator of its own, but there are {}; start at most {} processes",
                    local_rank, count, count));
  }
  return c10::Device(*accelerator_type(), static_cast<c10::DeviceIndex>(local_rank));
}

c10::Device parse_device(const std::string& text) {
  std::optional<c10::Device> device;
  try {
    device = c10::Device(text);
  } catch (const c10::Error&) {
    throw ConfigError(
        fmt::format("\"{}\" is no device; expected \"cpu\", or an accelerator such as \"cuda\" or \"cuda:1\"", text));
  }
  const bool cpu = device->is_cpu();
  const int count = cpu ? 1 : device->type() == accelerator_type() ? accelerator_count() : 0;
  if (written_index(text) >= count) {
    throw ConfigError(
        fmt::format("this machine has no device \"{}\" ({} of that kind found); set MODEL.DEVICE to \"cpu\"", text, count));
  }
  return *device;
}

void synchronize_device(c10::Device device) {
  if (device.is_cpu()) return;
  c10::impl::VirtualGuardImpl guard(device.type());
  guard.synchronizeDevice(device.has_index() ? device.index() : guard.getDevice().index());
}

}  // namespace treadle

#include "engine/autocast_scope.hpp"

#include <ATen/autocast_mode.h>
#include <torch/version.h>
#include <treadle/base/errors.hpp>

namespace treadle {
namespace {

#if TORCH_VERSION_MAJOR == 2 && TORCH_VERSION_MINOR < 4
// Before LibTorch 2.4 each kind of device has functions of its own.
namespace here {
bool is_enabled(c10::DeviceType device) {
  return device == c10::kCPU ? at::autocast::is_cpu_enabled() : at::autocast::is_enabled();
}
void set_enabled(c10::DeviceType device, bool enabled) {
  device == c10::kCPU ? at::autocast::set_cpu_enabled(enabled) : at::autocast::set_enabled(enabled);
}
c10::ScalarType dtype(c10::DeviceType device) {
  return device == c10::kCPU ? at::autocast::get_autocast_cpu_dtype() : at::autocast::get_autocast_gpu_dtype();
}
void set_dtype(c10::DeviceType device, c10::ScalarType dtype) {
  device == c10::kCPU ? at::autocast::set_autocast_cpu_dtype(dtype) : at::autocast::set_autocast_gpu_dtype(dtype);
}
}  // namespace here
#else
namespace here {
bool is_enabled(c10::DeviceType device) { return at::autocast::is_autocast_enabled(device); }
void set_enabled(c10::DeviceType device, bool enabled) { at::autocast::set_autocast_enabled(device, enabled); }
c10::ScalarType dtype(c10::DeviceType device) { return at::autocast::get_autocast_dtype(device); }
void set_dtype(c10::DeviceType device, c10::ScalarType dtype) { at::autocast::set_autocast_dtype(device, dtype); }
}  // namespace here
#endif

}  // namespace

AutocastScope::AutocastScope(c10::DeviceType device, c10::ScalarType dtype)
    : device_(device), dtype_before_(here::dtype(device)), enabled_before_(here::is_enabled(device)) {
  here::set_dtype(device_, dtype);
  here::set_enabled(device_, true);
  at::autocast::increment_nesting();
}

AutocastScope::~AutocastScope() {
  // Copies of weights in the lower precision are kept for one forward pass.
  if (at::autocast::decrement_nesting() == 0) at::autocast::clear_cache();
  here::set_enabled(device_, enabled_before_);
  here::set_dtype(device_, dtype_before_);
}

}  // namespace treadle

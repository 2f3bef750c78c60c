#pragma once

#include <c10/core/DeviceType.h>
#include <c10/core/ScalarType.h>

namespace treadle {

/// Autocast to `dtype` on one kind of device for the life of this object; then what was before.
class AutocastScope {
 public:
  AutocastScope(c10::DeviceType device, c10::ScalarType dtype);
  ~AutocastScope();
  AutocastScope(const AutocastScope&) = delete;
  AutocastScope& operator=(const AutocastScope&) = delete;

 private:
  c10::DeviceType device_;
  c10::ScalarType dtype_before_;
  bool enabled_before_;
};

}  // namespace treadle

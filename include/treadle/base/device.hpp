#pragma once

#include <c10/core/Device.h>

#include <string>

namespace treadle {

/// How many accelerator devices this process can use; 0 when LibTorch has none built in or the machine has none.
int accelerator_count() noexcept;

/// The device that training uses by default: the accelerator of index `local_rank`, or the CPU when there is none.
/// Throws ConfigError when there are accelerators, but not that many.
c10::Device default_device(int local_rank = 0);

/// Reads "cpu", "cuda", "cuda:1", … Throws ConfigError when the text is no device or this machine does not have it; of the CPU
/// there is one, "cpu" or "cpu:0".
c10::Device parse_device(const std::string& text);

/// Waits until all work queued on `device` is done; nothing for the CPU.
void synchronize_device(c10::Device device);

}  // namespace treadle

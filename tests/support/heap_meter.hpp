#pragma once

#include <cstdint>

namespace treadle {

/// How much memory was in use at one time since `start`, above what was in use then. For tests of one thread.
/// A test that uses it must link heap_meter.cpp, which replaces operator new of the whole process, LibTorch's included.
struct HeapMeter {
  /// Begins a measurement. The first call puts a counting allocator behind LibTorch's CPU tensors.
  static void start();
  /// The peak of what operator new gave, in bytes.
  static std::uint64_t heap_peak();
  /// The peak of the content of tensors, in bytes.
  static std::uint64_t tensor_peak();
};

}  // namespace treadle

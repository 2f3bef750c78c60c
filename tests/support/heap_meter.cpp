#include "tests/support/heap_meter.hpp"

#include <c10/core/Allocator.h>
#include <malloc.h>

#include <algorithm>
#include <atomic>
#include <cstdlib>
#include <cstring>
#include <new>

namespace {

/// What is in use, and the most since the start of the measurement.
struct Use {
  std::atomic<std::int64_t> now = 0, start = 0, peak = 0;

  void add(std::int64_t bytes) noexcept {
    const std::int64_t sum = now += bytes;
    if (sum > peak) peak = sum;
  }
  void restart() noexcept { start = peak = now.load(); }
  std::uint64_t above_start() const noexcept { return static_cast<std::uint64_t>(peak - start); }
};

Use heap_use;
Use tensor_use;

void* take(std::size_t bytes, std::size_t alignment = 0) {
  void* memory =
      alignment ? std::aligned_alloc(alignment, (bytes + alignment - 1) / alignment * alignment) : std::malloc(bytes ? bytes : 1);
  if (!memory) throw std::bad_alloc();
  heap_use.add(static_cast<std::int64_t>(malloc_usable_size(memory)));
  return memory;
}

void give(void* memory) noexcept {
  if (!memory) return;
  heap_use.add(-static_cast<std::int64_t>(malloc_usable_size(memory)));
  std::free(memory);
}

constexpr std::size_t kAlignment = 64;

/// Memory for tensors, with its length in front.
struct CountingAllocator final : c10::Allocator {
  static void release(void* block) {
    std::size_t bytes = 0;
    std::memcpy(&bytes, block, sizeof bytes);
    tensor_use.add(-static_cast<std::int64_t>(bytes));
    std::free(block);
  }
  c10::DataPtr allocate(std::size_t bytes) override {
    if (bytes == 0) return {nullptr, nullptr, &release, c10::Device(c10::kCPU)};
    void* block = nullptr;
    if (posix_memalign(&block, kAlignment, bytes + kAlignment) != 0) throw std::bad_alloc();
    std::memcpy(block, &bytes, sizeof bytes);
    tensor_use.add(static_cast<std::int64_t>(bytes));
    return {static_cast<char*>(block) + kAlignment, block, &release, c10::Device(c10::kCPU)};
  }
  c10::DeleterFnPtr raw_deleter() const override { return nullptr; }
  void copy_data(void* to, const void* from, std::size_t count) const override { std::memcpy(to, from, count); }
};

}  // namespace

void* operator new(std::size_t bytes) { return take(bytes); }
void* operator new[](std::size_t bytes) { return take(bytes); }
void* operator new(std::size_t bytes, std::align_val_t alignment) { return take(bytes, static_cast<std::size_t>(alignment)); }
void* operator new[](std::size_t bytes, std::align_val_t alignment) { return take(bytes, static_cast<std::size_t>(alignment)); }
// The library's own forms call the ones above, but a sanitizer's do not.
void* operator new(std::size_t bytes, const std::nothrow_t&) noexcept {
  try {
    return take(bytes);
  } catch (const std::bad_alloc&) {
    return nullptr;
  }
}
void* operator new[](std::size_t bytes, const std::nothrow_t& tag) noexcept { return operator new(bytes, tag); }
void operator delete(void* memory, const std::nothrow_t&) noexcept { give(memory); }
void operator delete[](void* memory, const std::nothrow_t&) noexcept { give(memory); }
void operator delete(void* memory) noexcept { give(memory); }
void operator delete[](void* memory) noexcept { give(memory); }
void operator delete(void* memory, std::size_t) noexcept { give(memory); }
void operator delete[](void* memory, std::size_t) noexcept { give(memory); }
void operator delete(void* memory, std::align_val_t) noexcept { give(memory); }
void operator delete[](void* memory, std::align_val_t) noexcept { give(memory); }
void operator delete(void* memory, std::size_t, std::align_val_t) noexcept { give(memory); }
void operator delete[](void* memory, std::size_t, std::align_val_t) noexcept { give(memory); }

namespace treadle {

void HeapMeter::start() {
  static CountingAllocator allocator;
  [[maybe_unused]] static const bool installed = (c10::SetAllocator(c10::DeviceType::CPU, &allocator, 100), true);
  heap_use.restart();
  tensor_use.restart();
}

std::uint64_t HeapMeter::heap_peak() { return heap_use.above_start(); }
std::uint64_t HeapMeter::tensor_peak() { return tensor_use.above_start(); }

}  // namespace treadle

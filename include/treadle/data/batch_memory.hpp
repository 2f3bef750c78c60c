#pragma once

#include <ATen/core/Tensor.h>

#include <cstddef>
#include <memory>

namespace treadle {

/// Memory for the tensors of batches: what a dropped batch held is kept and given to a later one, because the operating system
/// takes longer to hand out fresh pages than a copy takes to fill them. A value type; copies share the memory, and so do the
/// tensors, which may outlive it. Any thread.
///
/// Never holds more than was alive at one time at most, waiting memory included; tensors below 16 KiB are left to LibTorch.
class BatchMemory {
 public:
  /// `pinned`: page-locked memory, from which the accelerator copies without the CPU's help. Needs an accelerator.
  explicit BatchMemory(bool pinned = false);

  /// A contiguous tensor on the CPU with undefined content. Its memory comes back when the last tensor that shares it is gone.
  at::Tensor empty(at::IntArrayRef shape, at::ScalarType type);

  std::size_t bytes_in_use() const;
  std::size_t bytes_waiting() const;

 private:
  class Pool;
  std::shared_ptr<Pool> pool_;
};

/// `memory->empty`, or fresh memory when there is none.
at::Tensor empty_in(BatchMemory* memory, at::IntArrayRef shape, at::ScalarType type);

}  // namespace treadle

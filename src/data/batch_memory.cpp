#include <treadle/data/batch_memory.hpp>

#include <ATen/ops/empty.h>
#include <ATen/ops/from_blob.h>

#include <bit>
#include <deque>
#include <mutex>
#include <utility>

namespace treadle {

namespace {

constexpr std::size_t kLeast = std::size_t{16} << 10;

/// Sizes are rounded up to eighths of a power of two, so that batches of nearly equal size take each other's memory.
std::size_t rounded(std::size_t bytes) {
  const std::size_t step = std::bit_floor(bytes) / 8;
  return (bytes + step - 1) / step * step;
}

std::size_t bytes_of(at::IntArrayRef shape, at::ScalarType type) {
  std::size_t bytes = c10::elementSize(type);
  for (std::int64_t side : shape) bytes *= static_cast<std::size_t>(side);
  return bytes;
}

}  // namespace

class BatchMemory::Pool : public std::enable_shared_from_this<Pool> {
 public:
  explicit Pool(bool pinned) : pinned_(pinned) {}

  at::Tensor empty(at::IntArrayRef shape, at::ScalarType type) {
    const std::size_t wanted = bytes_of(shape, type);
    const at::TensorOptions options = at::TensorOptions(type).pinned_memory(pinned_);
    if (wanted < kLeast) return at::empty(shape, options);
    at::Tensor block = take(rounded(wanted));
    void* data = block.mutable_data_ptr();
    return at::from_blob(
        data, shape, [pool = shared_from_this(), block = std::move(block)](void*) mutable { pool->put(std::move(block)); },
        at::TensorOptions(type));
  }

  std::size_t bytes_in_use() const {
    std::lock_guard lock(mutex_);
    return in_use_;
  }
  std::size_t bytes_waiting() const {
    std::lock_guard lock(mutex_);
    return waiting_bytes_;
  }

 private:
  at::Tensor take(std::size_t bytes) {
    {
      std::deque<at::Tensor> dropped;  // freed behind the lock
      std::lock_guard lock(mutex_);
      in_use_ += bytes;
      most_in_use_ = std::max(most_in_use_, in_use_);
      for (auto block = waiting_.rbegin(); block != waiting_.rend(); ++block) {
        if (block->nbytes() != bytes) continue;
        at::Tensor found = std::move(*block);
        waiting_.erase(std::next(block).base());
        waiting_bytes_ -= bytes;
        return found;
      }
      trim(dropped);
    }
    return at::empty({static_cast<std::int64_t>(bytes)}, at::TensorOptions(at::kByte).pinned_memory(pinned_));
  }

  void put(at::Tensor block) {
    std::deque<at::Tensor> dropped;  // freed behind the lock
    std::lock_guard lock(mutex_);
    in_use_ -= block.nbytes();
    waiting_bytes_ += block.nbytes();
    waiting_.push_back(std::move(block));
    trim(dropped);
  }

  /// What has waited longest is of a size that no longer occurs.
  void trim(std::deque<at::Tensor>& dropped) {
    while (waiting_bytes_ + in_use_ > most_in_use_) {
      waiting_bytes_ -= waiting_.front().nbytes();
      dropped.push_back(std::move(waiting_.front()));
      waiting_.pop_front();
    }
  }

  const bool pinned_;
  mutable std::mutex mutex_;
  std::deque<at::Tensor> waiting_;  // the last to come back stands last
  std::size_t waiting_bytes_ = 0;
  std::size_t in_use_ = 0;
  std::size_t most_in_use_ = 0;
};

BatchMemory::BatchMemory(bool pinned) : pool_(std::make_shared<Pool>(pinned)) {}
at::Tensor BatchMemory::empty(at::IntArrayRef shape, at::ScalarType type) { return pool_->empty(shape, type); }
std::size_t BatchMemory::bytes_in_use() const { return pool_->bytes_in_use(); }
std::size_t BatchMemory::bytes_waiting() const { return pool_->bytes_waiting(); }

at::Tensor empty_in(BatchMemory* memory, at::IntArrayRef shape, at::ScalarType type) {
  return memory ? memory->empty(shape, type) : at::empty(shape, at::TensorOptions(type));
}

}  // namespace treadle

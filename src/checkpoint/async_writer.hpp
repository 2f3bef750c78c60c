#pragma once

#include <treadle/base/value.hpp>
#include <treadle/checkpoint/checkpointer.hpp>

#include <c10/core/Device.h>

#include <atomic>
#include <exception>
#include <functional>
#include <thread>
#include <vector>

namespace treadle {

/// The devices that hold tensors of `state`, each once, but for the CPU. Copies that do not block are there when all of these are
/// synchronized.
std::vector<c10::Device> devices_of(const Value& state);

/// Copies a state into host memory that is kept from one save to the next, and writes it on a thread of its own.
/// Owner's thread only. The destructor waits.
class Checkpointer::AsyncWriter {
 public:
  ~AsyncWriter();

  bool busy() const noexcept { return busy_; }
  /// The error of a write that has ended; null while busy. It stays until `wait`.
  std::exception_ptr error() const noexcept { return busy_ ? nullptr : error_; }
  /// Copies `state`, then runs `write` with the copy on the writer's thread. Not while busy. A failure to copy is an error of
  /// the write, so that all ranks hear of it where they hear of the others.
  void start(const Value& state, std::function<void(const Value&)> write);
  /// Returns when nothing is being written, with the error of what was.
  std::exception_ptr wait();

 private:
  Value snapshot(const Value& state);

  std::vector<at::Tensor> buffers_;
  Value copy_;
  std::exception_ptr error_;
  std::thread thread_;
  std::atomic<bool> busy_ = false;
};

}  // namespace treadle

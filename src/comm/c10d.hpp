#pragma once

// LibTorch's distributed headers show what the library was built with only to those who say so.
#ifndef USE_DISTRIBUTED
#define USE_DISTRIBUTED
#endif
#ifndef USE_C10D_GLOO
#define USE_C10D_GLOO
#endif

#include <comm/link.hpp>

#include <torch/csrc/distributed/c10d/ProcessGroupGloo.hpp>
#include <torch/csrc/distributed/c10d/Store.hpp>

#include <algorithm>
#include <condition_variable>
#include <memory>
#include <mutex>
#include <vector>

namespace treadle {

struct Store::Impl {
  c10::intrusive_ptr<c10d::Store> store;
};

/// Gloo whose connections can be closed while operations wait for them.
class ClosableGloo final : public c10d::ProcessGroupGloo {
 public:
  using ProcessGroupGloo::ProcessGroupGloo;
  // The system's gloo, whose headers these are, gives a context a table of virtual functions that LibTorch's lacks. Nothing is
  // called here that would need it, but the sanitizer asks for it.
  __attribute__((no_sanitize("vptr"))) void close() {
    for (const auto& context : contexts_) context->closeConnections();
  }
  /// What the Reducer calls; it does not say which of its exceptions come from here. Any thread.
  c10::intrusive_ptr<c10d::Work> allreduce(std::vector<at::Tensor>& tensors, const c10d::AllreduceOptions& options) override {
    auto work = ProcessGroupGloo::allreduce(tensors, options);
    const std::lock_guard lock(sums_mutex_);
    sums_.push_back(work->getFuture());
    return work;
  }
  /// Whether an `allreduce` since `forget_sums` has failed.
  bool has_failed() {
    const std::lock_guard lock(sums_mutex_);
    return std::any_of(sums_.begin(), sums_.end(), [](const auto& sum) { return sum->completed() && sum->hasError(); });
  }
  void forget_sums() {
    const std::lock_guard lock(sums_mutex_);
    sums_.clear();
  }

 private:
  // Asked themselves: who waits for one is woken before its callbacks have run.
  std::mutex sums_mutex_;
  std::vector<c10::intrusive_ptr<c10::ivalue::Future>> sums_;
};

/// Wakes those who wait for an operation when it ends, and when the connections are closed.
struct WakeUp {
  std::mutex mutex;
  std::condition_variable changed;
  bool closed = false;
};

struct Link::Impl {
  c10::intrusive_ptr<c10d::Store> store;
  c10::intrusive_ptr<ClosableGloo> gloo;
  std::chrono::milliseconds timeout{};
  std::shared_ptr<WakeUp> wake_up = std::make_shared<WakeUp>();
};

}  // namespace treadle

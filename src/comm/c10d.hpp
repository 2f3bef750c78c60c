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

#include <atomic>
#include <condition_variable>
#include <memory>
#include <mutex>

namespace treadle {

struct Store::Impl {
  c10::intrusive_ptr<c10d::Store> store;
};

/// Gloo whose connections can be closed while operations wait for them.
class ClosableGloo final : public c10d::ProcessGroupGloo {
 public:
  using ProcessGroupGloo::ProcessGroupGloo;
  void close() {
    for (const auto& context : contexts_) context->closeConnections();
  }
  /// What the Reducer calls; it does not say which of its exceptions come from here.
  c10::intrusive_ptr<c10d::Work> allreduce(std::vector<at::Tensor>& tensors, const c10d::AllreduceOptions& options) override {
    auto work = ProcessGroupGloo::allreduce(tensors, options);
    work->getFuture()->addCallback([failed = failed_](c10::ivalue::Future& future) {
      if (future.hasError()) *failed = true;
    });
    return work;
  }
  /// Whether an `allreduce` has failed.
  bool has_failed() const noexcept { return *failed_; }

 private:
  std::shared_ptr<std::atomic<bool>> failed_ = std::make_shared<std::atomic<bool>>(false);
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

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
};

struct Link::Impl {
  c10::intrusive_ptr<ClosableGloo> gloo;
  std::chrono::milliseconds timeout{};
  std::atomic<bool> closed = false;
};

}  // namespace treadle

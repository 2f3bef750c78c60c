#include <comm/c10d.hpp>

#include <c10/util/Exception.h>
#include <torch/csrc/distributed/c10d/PrefixStore.hpp>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdlib>
#include <stdexcept>
#include <thread>

namespace treadle {
namespace {

using Clock = std::chrono::steady_clock;

constexpr std::chrono::seconds kBetweenLooks{1};
/// About what it takes to fall asleep and to be woken: a short message comes sooner.
constexpr std::chrono::microseconds kAwake{100};

std::shared_ptr<gloo::transport::Device> find_device(const std::string& address) {
  if (!address.empty()) return c10d::ProcessGroupGloo::createDeviceForHostname(address);
  const char* interface = std::getenv("GLOO_SOCKET_IFNAME");
  if (interface != nullptr) return c10d::ProcessGroupGloo::createDeviceForInterface(interface);
  return c10d::ProcessGroupGloo::createDefaultDevice();
}

std::shared_ptr<gloo::transport::Device> make_device(const std::string& address) {
  try {
    return find_device(address);
  } catch (const std::exception& error) {
    throw AddressError(cause_of(error));
  }
}

/// Messages between two ranks: LibTorch gives no more than a wait with a limit.
class DirectTransfer final : public Link::Transfer {
 public:
  DirectTransfer(c10::intrusive_ptr<c10d::Work> work, std::chrono::milliseconds timeout)
      : work_(std::move(work)), timeout_(timeout) {}
  void wait(const std::function<void()>&) override {
    if (!work_->wait(timeout_)) throw std::runtime_error("the operation was ended");
  }

 private:
  c10::intrusive_ptr<c10d::Work> work_;  // keeps the tensor
  std::chrono::milliseconds timeout_;
};

/// A collective. The wait ends when it ends, or at the limit, or when the connections are closed.
class CollectiveTransfer final : public Link::Transfer {
 public:
  CollectiveTransfer(c10::intrusive_ptr<c10d::Work> work, const Link::Impl& link)
      : work_(std::move(work)), wake_up_(link.wake_up), timeout_(link.timeout) {
    work_->getFuture()->addCallback([wake_up = wake_up_, done = done_](c10::ivalue::Future&) {
      const std::lock_guard lock(wake_up->mutex);
      *done = true;
      wake_up->changed.notify_all();
    });
  }
  void wait(const std::function<void()>& look) override {
    const auto start = Clock::now(), deadline = start + timeout_;
    while (!*done_ && Clock::now() - start < kAwake) std::this_thread::yield();
    const auto ended = [this] { return *done_ || wake_up_->closed; };
    std::unique_lock lock(wake_up_->mutex);
    while (!wake_up_->changed.wait_until(lock, std::min(deadline, Clock::now() + kBetweenLooks), ended)) {
      lock.unlock();
      if (Clock::now() >= deadline) throw std::runtime_error("the time limit is over");
      look();
      lock.lock();
    }
    const bool done = *done_;
    lock.unlock();
    if (!done) throw std::runtime_error("the connections were closed");
    work_->wait();
  }

 private:
  c10::intrusive_ptr<c10d::Work> work_;  // keeps the tensors
  std::shared_ptr<WakeUp> wake_up_;
  std::shared_ptr<std::atomic<bool>> done_ = std::make_shared<std::atomic<bool>>(false);  // set under the mutex of wake_up_
  std::chrono::milliseconds timeout_;
};

}  // namespace

std::string cause_of(const std::exception& error) {
  const auto* torch_error = dynamic_cast<const c10::Error*>(&error);
  std::string text = torch_error ? torch_error->what_without_backtrace() : error.what();
  // Gloo puts the place in its source in front, and its advice behind.
  if (text.starts_with('[')) text.erase(0, text.find("] ") == std::string::npos ? 0 : text.find("] ") + 2);
  return text.substr(0, std::min(text.find('\n'), text.find(". This is")));
}

Link::Link(Store& store, const LinkOptions& options) : impl_(std::make_shared<Impl>()) {
  auto gloo_options = c10d::ProcessGroupGloo::Options::create(options.timeout);
  gloo_options->devices.push_back(make_device(options.address));
  impl_->store = c10::make_intrusive<c10d::PrefixStore>(options.name, store.impl()->store);
  impl_->gloo = c10::make_intrusive<ClosableGloo>(impl_->store, options.rank, options.world_size, gloo_options);
  impl_->timeout = options.timeout;
}

Link::~Link() {
  // Gloo's destructor waits for operations under way, and behind a failure those may wait for ranks that never come.
  std::unique_lock lock(impl_->wake_up->mutex);
  const bool closed = impl_->wake_up->closed;
  lock.unlock();
  if (closed) std::thread([impl = std::move(impl_)]() mutable { impl.reset(); }).detach();
}

std::unique_ptr<Link::Transfer> Link::all_gather(const at::Tensor& in, const at::Tensor& out) {
  at::Tensor from = in, to = out;
  return std::make_unique<CollectiveTransfer>(impl_->gloo->_allgather_base(to, from), *impl_);
}

std::unique_ptr<Link::Transfer> Link::all_to_all(const at::Tensor& in, const at::Tensor& out) {
  at::Tensor from = in, to = out;
  std::vector<std::int64_t> equal_parts;
  return std::make_unique<CollectiveTransfer>(impl_->gloo->alltoall_base(to, from, equal_parts, equal_parts), *impl_);
}

std::unique_ptr<Link::Transfer> Link::broadcast(const at::Tensor& tensor, int source) {
  std::vector<at::Tensor> tensors{tensor};
  c10d::BroadcastOptions options;
  options.rootRank = source;
  return std::make_unique<CollectiveTransfer>(impl_->gloo->broadcast(tensors, options), *impl_);
}

std::unique_ptr<Link::Transfer> Link::send(const at::Tensor& tensor, int destination) {
  std::vector<at::Tensor> tensors{tensor};
  return std::make_unique<DirectTransfer>(impl_->gloo->send(tensors, destination, 0), impl_->timeout);
}

std::unique_ptr<Link::Transfer> Link::receive(const at::Tensor& tensor, int source) {
  std::vector<at::Tensor> tensors{tensor};
  return std::make_unique<DirectTransfer>(impl_->gloo->recv(tensors, source, 0), impl_->timeout);
}

void Link::close() noexcept {
  {
    const std::lock_guard lock(impl_->wake_up->mutex);
    if (impl_->wake_up->closed) return;
    impl_->wake_up->closed = true;
    impl_->wake_up->changed.notify_all();
  }
  try {
    impl_->gloo->close();
  } catch (const std::exception&) {
    // A connection that cannot be closed is closed already.
  }
}

}  // namespace treadle

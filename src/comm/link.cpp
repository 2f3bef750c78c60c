#include <comm/c10d.hpp>

#include <c10/util/Exception.h>
#include <torch/csrc/distributed/c10d/PrefixStore.hpp>

#include <cstdlib>
#include <stdexcept>
#include <thread>

namespace treadle {
namespace {

std::shared_ptr<gloo::transport::Device> make_device(const std::string& address) {
  if (!address.empty()) return c10d::ProcessGroupGloo::createDeviceForHostname(address);
  const char* interface = std::getenv("GLOO_SOCKET_IFNAME");
  if (interface != nullptr) return c10d::ProcessGroupGloo::createDeviceForInterface(interface);
  return c10d::ProcessGroupGloo::createDefaultDevice();
}

class WorkTransfer final : public Link::Transfer {
 public:
  WorkTransfer(c10::intrusive_ptr<c10d::Work> work, std::vector<at::Tensor> tensors, std::chrono::milliseconds timeout)
      : work_(std::move(work)), tensors_(std::move(tensors)), timeout_(timeout) {}
  void wait() override {
    if (!work_->wait(timeout_)) throw std::runtime_error("the operation was ended");
  }

 private:
  c10::intrusive_ptr<c10d::Work> work_;
  std::vector<at::Tensor> tensors_;
  std::chrono::milliseconds timeout_;
};

}  // namespace

std::string cause_of(const std::exception& error) {
  const auto* torch_error = dynamic_cast<const c10::Error*>(&error);
  const std::string text = torch_error ? torch_error->what_without_backtrace() : error.what();
  return text.substr(0, text.find('\n'));
}

Link::Link(Store& store, const LinkOptions& options) : impl_(std::make_shared<Impl>()) {
  auto gloo_options = c10d::ProcessGroupGloo::Options::create(options.timeout);
  gloo_options->devices.push_back(make_device(options.address));
  auto prefixed = c10::make_intrusive<c10d::PrefixStore>(options.name, store.impl()->store);
  impl_->gloo = c10::make_intrusive<ClosableGloo>(prefixed, options.rank, options.world_size, gloo_options);
  impl_->timeout = options.timeout;
}

Link::~Link() {
  // Gloo's destructor waits for operations under way, and behind a failure those may wait for ranks that never come.
  if (impl_ && impl_->closed) std::thread([impl = std::move(impl_)]() mutable { impl.reset(); }).detach();
}

std::unique_ptr<Link::Transfer> Link::all_gather(const at::Tensor& in, const at::Tensor& out) {
  at::Tensor from = in, to = out;
  return std::make_unique<WorkTransfer>(impl_->gloo->_allgather_base(to, from), std::vector{in, out}, impl_->timeout);
}

std::unique_ptr<Link::Transfer> Link::broadcast(const at::Tensor& tensor, int source) {
  std::vector<at::Tensor> tensors{tensor};
  c10d::BroadcastOptions options;
  options.rootRank = source;
  return std::make_unique<WorkTransfer>(impl_->gloo->broadcast(tensors, options), tensors, impl_->timeout);
}

std::unique_ptr<Link::Transfer> Link::send(const at::Tensor& tensor, int destination) {
  std::vector<at::Tensor> tensors{tensor};
  return std::make_unique<WorkTransfer>(impl_->gloo->send(tensors, destination, 0), tensors, impl_->timeout);
}

std::unique_ptr<Link::Transfer> Link::receive(const at::Tensor& tensor, int source) {
  std::vector<at::Tensor> tensors{tensor};
  return std::make_unique<WorkTransfer>(impl_->gloo->recv(tensors, source, 0), tensors, impl_->timeout);
}

void Link::close() noexcept {
  if (impl_->closed.exchange(true)) return;
  try {
    impl_->gloo->close();
  } catch (const std::exception&) {
    // A connection that cannot be closed is closed already.
  }
}

}  // namespace treadle

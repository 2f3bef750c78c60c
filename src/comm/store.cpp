#include <comm/c10d.hpp>

#include <fmt/format.h>
#include <torch/csrc/distributed/c10d/FileStore.hpp>
#include <torch/csrc/distributed/c10d/PrefixStore.hpp>
#include <torch/csrc/distributed/c10d/TCPStore.hpp>

#include <netdb.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <future>
#include <limits>
#include <numeric>
#include <stdexcept>
#include <thread>

namespace treadle {
namespace {

using Milliseconds = std::chrono::milliseconds;

using Clock = std::chrono::steady_clock;

constexpr Milliseconds kSlack{1000};  // for calls that keep a limit by themselves
constexpr Milliseconds kPoll{3};
constexpr Milliseconds kRetry{50};

/// Runs `call` on a thread of its own and gives it up after `limit`: a client of a stopped server waits for ever.
template <class Call>
auto within(Milliseconds limit, const std::string& address, Call call) -> decltype(call()) {
  std::packaged_task<decltype(call())()> task(std::move(call));
  auto result = task.get_future();
  std::thread(std::move(task)).detach();
  if (result.wait_for(limit) != std::future_status::ready) {
    throw std::runtime_error(
        fmt::format("the store at {} did not answer within {:.1f} s", address, static_cast<double>(limit.count()) / 1000));
  }
  return result.get();
}

/// Tries one connection; returns an errno value, 0 when somebody listens.
int knock(const addrinfo& address, Milliseconds limit) {
  const int file = ::socket(address.ai_family, address.ai_socktype | SOCK_NONBLOCK | SOCK_CLOEXEC, address.ai_protocol);
  if (file < 0) return errno;
  int problem = ::connect(file, address.ai_addr, address.ai_addrlen) == 0 ? 0 : errno;
  if (problem == EINPROGRESS) {
    pollfd wait{file, POLLOUT, 0};
    socklen_t size = sizeof problem;
    problem = ETIMEDOUT;
    const auto count = std::min<Milliseconds::rep>(limit.count(), std::numeric_limits<int>::max());
    if (::poll(&wait, 1, static_cast<int>(count)) == 1) ::getsockopt(file, SOL_SOCKET, SO_ERROR, &problem, &size);
  }
  ::close(file);
  return problem;
}

/// Waits until somebody listens at the address. TCPStore would too, but it prints its failures and does not keep the limit.
void wait_for_listener(const std::string& host, std::uint16_t port, Milliseconds limit) {
  const auto deadline = Clock::now() + limit;
  std::string problem;
  do {
    addrinfo hints{}, *found = nullptr;
    hints.ai_socktype = SOCK_STREAM;
    if (const int code = ::getaddrinfo(host.c_str(), std::to_string(port).c_str(), &hints, &found); code != 0) {
      problem = ::gai_strerror(code);
    } else {
      int error = ECONNREFUSED;
      for (const addrinfo* address = found; address != nullptr && error != 0; address = address->ai_next) {
        // A negative limit would be none.
        const auto left = std::chrono::duration_cast<Milliseconds>(deadline - Clock::now());
        error = knock(*address, std::max(left, Milliseconds(0)));
      }
      ::freeaddrinfo(found);
      if (error == 0) return;
      problem = std::strerror(error);
    }
    std::this_thread::sleep_for(kRetry);
  } while (Clock::now() < deadline);
  throw std::runtime_error(fmt::format("the store at {}:{} cannot be reached within {:g} s: {}", host, port,
                                       static_cast<double>(limit.count()) / 1000, problem));
}

c10::intrusive_ptr<c10d::Store> open_store(const ConnectOptions& options) {
  if (!options.file.empty()) {
    // No count of workers: the file belongs to whoever chose it, and outlives a group that is rebuilt.
    return c10::make_intrusive<c10d::FileStore>(options.file.string(), -1);
  }
  wait_for_listener(options.host, options.port, options.timeout);
  c10d::TCPStoreOptions tcp;
  tcp.port = options.port;
  tcp.isServer = false;
  tcp.waitWorkers = false;
  tcp.timeout = options.timeout;
  return c10::make_intrusive<c10d::TCPStore>(options.host, tcp);
}

std::vector<std::uint8_t> bytes_of(const std::string& text) { return {text.begin(), text.end()}; }

}  // namespace

Store::Store(const ConnectOptions& options)
    : address_(options.file.empty() ? fmt::format("{}:{}", options.host, options.port) : options.file.string()) {
  const auto open = [options] {
    auto store = open_store(options);
    store->setTimeout(options.timeout);
    return std::make_shared<Impl>(Impl{c10::make_intrusive<c10d::PrefixStore>("treadle", std::move(store))});
  };
  try {
    impl_ = within(2 * options.timeout + kSlack, address_, open);
  } catch (const c10::Error& error) {
    throw std::runtime_error(fmt::format("the store at {} cannot be reached: {}", address_, cause_of(error)));
  }
}

Store::~Store() = default;

void Store::set(const std::string& key, const std::string& value, Milliseconds limit) {
  within(limit, address_, [impl = impl_, key, bytes = bytes_of(value)] { impl->store->set(key, bytes); });
}

std::optional<std::string> Store::find(const std::string& key, Milliseconds limit) {
  return within(limit, address_, [impl = impl_, key]() -> std::optional<std::string> {
    if (!impl->store->check({key})) return std::nullopt;
    const std::vector<std::uint8_t> bytes = impl->store->get(key);
    return std::string(bytes.begin(), bytes.end());
  });
}

std::string Store::decide(const std::string& key, const std::string& value, Milliseconds limit) {
  return within(limit, address_, [impl = impl_, key, value] {
    const std::vector<std::uint8_t> decided = impl->store->compareSet(key, {}, bytes_of(value));
    return std::string(decided.begin(), decided.end());
  });
}

std::vector<std::size_t> Store::wait(const std::vector<std::string>& keys, Milliseconds limit) {
  // Asked again and again, since LibTorch's own wait tells neither which keys are absent nor ends in time over a file.
  const auto absent_keys = [impl = impl_, keys, limit] {
    const auto deadline = Clock::now() + limit;
    std::vector<std::size_t> absent(keys.size());
    std::iota(absent.begin(), absent.end(), 0);
    for (;;) {
      std::erase_if(absent, [&](std::size_t i) { return impl->store->check({keys[i]}); });
      if (absent.empty() || Clock::now() >= deadline) return absent;
      std::this_thread::sleep_for(kPoll);
    }
  };
  return within(limit + kSlack, address_, absent_keys);
}

}  // namespace treadle

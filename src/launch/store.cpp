// The store at which processes meet: LibTorch's own, behind a port that is held from the first moment, and reached with errors
// that say what is wrong.
#include <launch/descriptor.hpp>
#include <launch/meeting_point.hpp>
#include <treadle/base/errors.hpp>

#include <fcntl.h>
#include <fmt/format.h>
#include <netdb.h>
#include <netinet/in.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <torch/csrc/distributed/c10d/TCPStore.hpp>

#include <cerrno>
#include <memory>

namespace treadle {
namespace {

using Addresses = std::unique_ptr<addrinfo, decltype(&freeaddrinfo)>;

/// Null, with why in `problem`, when the name is not known.
Addresses resolve(const DistUrl& url, std::string& problem) {
  addrinfo wanted{};
  wanted.ai_socktype = SOCK_STREAM;
  addrinfo* found = nullptr;
  const int code = getaddrinfo(url.host.c_str(), std::to_string(url.port).c_str(), &wanted, &found);
  if (code != 0) problem = gai_strerror(code);
  return {code == 0 ? found : nullptr, &freeaddrinfo};
}

bool is_loopback(const addrinfo& address) {
  if (address.ai_family == AF_INET)
    return ntohl(reinterpret_cast<const sockaddr_in*>(address.ai_addr)->sin_addr.s_addr) >> 24 == 127;
  return address.ai_family == AF_INET6 &&
         IN6_IS_ADDR_LOOPBACK(&reinterpret_cast<const sockaddr_in6*>(address.ai_addr)->sin6_addr);
}

/// 0 when something listens at `address`, else why not.
int try_to_connect(const addrinfo& address, Clock::time_point deadline) {
  const Descriptor socket(::socket(address.ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (socket.get() < 0) return errno;
  if (connect(socket.get(), address.ai_addr, address.ai_addrlen) == 0) return 0;
  if (errno != EINPROGRESS) return errno;
  pollfd source{socket.get(), POLLOUT, 0};
  if (poll(&source, 1, poll_timeout(deadline)) == 0) return ETIMEDOUT;
  int number = 0;
  socklen_t size = sizeof number;
  getsockopt(socket.get(), SOL_SOCKET, SO_ERROR, &number, &size);
  return number;
}

/// Empty when something listens there, else why not.
std::string why_unreachable(const DistUrl& url, Clock::time_point deadline) {
  std::string problem;
  const Addresses addresses = resolve(url, problem);
  for (const addrinfo* each = addresses.get(); each != nullptr; each = each->ai_next) {
    // Short, so that whoever waits can be interrupted.
    const int number = try_to_connect(*each, std::min(deadline, Clock::now() + std::chrono::seconds(2)));
    if (number == 0) return {};
    problem = strerror(number);
  }
  return problem;
}

}  // namespace

HeldPort hold_port(const DistUrl& url, int num_machines) {
  std::string problem;
  const Addresses addresses = resolve(url, problem);
  const bool literal = url.host == "localhost" || url.host.starts_with("127.") || url.host == "::1";
  const bool everywhere = num_machines > 1 && !literal && addresses && is_loopback(*addresses);
  return {everywhere ? "" : url.host, url.port};
}

c10::intrusive_ptr<c10d::Store> serve_store(HeldPort& port, const DistUrl& url, std::chrono::milliseconds timeout) {
  c10d::TCPStoreOptions options;
  options.port = port.port();
  options.isServer = true;
  options.waitWorkers = false;
  options.timeout = timeout;
  options.masterListenFd = port.release();
  return c10::make_intrusive<c10d::TCPStore>(url.host, options);
}

c10::intrusive_ptr<c10d::Store> reach_store(const DistUrl& url, std::chrono::milliseconds timeout, int rank, const Wait& wait) {
  const auto deadline = Clock::now() + timeout;
  for (;;) {
    const std::string problem = why_unreachable(url, deadline);
    if (problem.empty()) break;
    if (Clock::now() >= deadline) {
      throw CommError(fmt::format("nothing can be reached at {} within {} s: {}", to_string(url),
                                  std::chrono::duration<double>(timeout).count(), problem),
                      rank, "join");
    }
    wait(std::min(deadline, Clock::now() + std::chrono::milliseconds(100)));
  }
  c10d::TCPStoreOptions options;
  options.port = url.port;
  options.waitWorkers = false;
  options.timeout = timeout;
  return c10::make_intrusive<c10d::TCPStore>(url.host, options);
}

}  // namespace treadle

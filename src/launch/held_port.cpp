#include <launch/descriptor.hpp>
#include <treadle/base/errors.hpp>
#include <treadle/launch/held_port.hpp>

#include <fmt/format.h>
#include <netdb.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include <cerrno>
#include <memory>
#include <utility>

namespace treadle {
namespace {

using Addresses = std::unique_ptr<addrinfo, decltype(&freeaddrinfo)>;

[[noreturn]] void refuse(const std::string& host, std::uint16_t port, int number) {
  const char* advice = number == EADDRINUSE      ? "another program has this port: choose another one"
                       : number == EADDRNOTAVAIL ? "the address must be one of this machine"
                       : number == EACCES        ? "choose a port above 1023"
                                                 : "";
  throw IoError("listen on", fmt::format("tcp://{}:{}", host.empty() ? "*" : host, port), number, advice);
}

Addresses addresses_of(const std::string& host, std::uint16_t port) {
  addrinfo wanted{};
  wanted.ai_socktype = SOCK_STREAM;
  wanted.ai_flags = AI_PASSIVE | AI_NUMERICSERV;
  addrinfo* found = nullptr;
  const int problem = getaddrinfo(host.empty() ? nullptr : host.c_str(), std::to_string(port).c_str(), &wanted, &found);
  if (problem != 0) throw Error(fmt::format("the host \"{}\" is not known: {}", host, gai_strerror(problem)));
  return {found, &freeaddrinfo};
}

Descriptor listen_at(const addrinfo& address) {
  Descriptor socket(::socket(address.ai_family, SOCK_STREAM | SOCK_CLOEXEC, 0));
  if (socket.get() < 0) return socket;
  const int on = 1, off = 0;
  // A port that a program has just left is free, though connections to it linger.
  setsockopt(socket.get(), SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
  if (address.ai_family == AF_INET6) setsockopt(socket.get(), IPPROTO_IPV6, IPV6_V6ONLY, &off, sizeof off);
  if (bind(socket.get(), address.ai_addr, address.ai_addrlen) == 0 && ::listen(socket.get(), SOMAXCONN) == 0) return socket;
  const int number = errno;
  socket.reset();
  errno = number;
  return socket;
}

std::uint16_t port_of(int socket) {
  sockaddr_storage address{};
  socklen_t size = sizeof address;
  getsockname(socket, reinterpret_cast<sockaddr*>(&address), &size);
  return ntohs(address.ss_family == AF_INET6 ? reinterpret_cast<const sockaddr_in6&>(address).sin6_port
                                             : reinterpret_cast<const sockaddr_in&>(address).sin_port);
}

}  // namespace

HeldPort::HeldPort(const std::string& host, std::uint16_t port) {
  const Addresses addresses = addresses_of(host, port);
  int number = 0;
  // For all addresses IPv6 comes first: where there is such a thing, its socket takes IPv4 too.
  for (const bool ipv6 : {host.empty(), !host.empty()}) {
    for (const addrinfo* each = addresses.get(); each != nullptr; each = each->ai_next) {
      if ((each->ai_family == AF_INET6) != ipv6) continue;
      Descriptor socket = listen_at(*each);
      if (socket.get() >= 0) {
        socket_ = socket.release();
        port_ = port_of(socket_);
        return;
      }
      // A busy port says more than a family of addresses that this machine does not have.
      if (number != EADDRINUSE) number = errno;
    }
  }
  refuse(host, port, number);
}

HeldPort::~HeldPort() { Descriptor(std::exchange(socket_, -1)).reset(); }

HeldPort::HeldPort(HeldPort&& other) noexcept : socket_(std::exchange(other.socket_, -1)), port_(other.port_) {}

int HeldPort::release() noexcept { return std::exchange(socket_, -1); }

HeldPort find_free_port() { return {"127.0.0.1", 0}; }

}  // namespace treadle

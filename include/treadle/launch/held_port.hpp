#pragma once

#include <cstdint>
#include <string>

namespace treadle {

/// A TCP port that listens, and so belongs to this process: nobody can take it between the moment it is found and the moment a
/// server uses it. Connections made meanwhile wait for that server. Moves, does not copy; one thread.
class HeldPort {
 public:
  /// Listens on `port` (0: one that is free) of `host`, an address or name of this machine; an empty one stands for all its
  /// addresses. Throws IoError that says why it cannot be had: in use, not an address of this machine, not allowed; Error for a
  /// host that is not known.
  HeldPort(const std::string& host, std::uint16_t port);
  ~HeldPort();
  HeldPort(HeldPort&& other) noexcept;
  HeldPort& operator=(HeldPort&&) = delete;

  std::uint16_t port() const noexcept { return port_; }
  /// The listening socket, which its new owner closes.
  int release() noexcept;

 private:
  int socket_ = -1;
  std::uint16_t port_ = 0;
};

/// A free port of this machine alone (127.0.0.1).
HeldPort find_free_port();

}  // namespace treadle

#pragma once

#include <treadle/comm/group.hpp>

#include <chrono>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <string>

namespace treadle {

/// Longer limits, `milliseconds::max()` among them, count as this one: a deadline must fit the clock.
inline constexpr std::chrono::milliseconds kLongestTimeout = std::chrono::hours(24 * 365);

/// Who this process is, and where it finds the others.
struct ConnectOptions {
  int rank = 0;        ///< in [0, world_size)
  int world_size = 1;  ///< at least 1
  int local_rank = 0;  ///< among the processes of this machine, in [0, local_size)
  int local_size = 1;  ///< in [1, world_size]; the ranks of a machine follow one another
  /// How often the run was started anew. Ranks of different generations do not meet.
  std::int64_t generation = 0;
  /// Ranks that give different names do not meet at a store. A new start of all ranks needs one of its own once `rebuild` was
  /// called in the start before, which counts the generations on. Not empty.
  std::string name = "group";

  /// The store in which ranks find each other: a c10d::TCPStore that another process serves (the launcher), which outlives the
  /// ranks.
  std::string host = "127.0.0.1";
  std::uint16_t port = 0;
  /// Instead of host and port: a file that every rank can write, absent or empty before a run.
  std::filesystem::path file{};
  /// Whose process serves the store, for errors that say that it is gone.
  std::string store_keeper = "the launcher";

  /// How long a call waits for the other ranks at a time, `connect_group` included; above 0.
  std::chrono::milliseconds timeout = std::chrono::minutes(30);
  /// How long `rebuild` waits for the ranks of before, or for others that connect in their place with the next generation. Then
  /// it goes on with those that came. At least 0.
  std::chrono::milliseconds rebuild_wait = std::chrono::seconds(10);
  /// The address or host name of this machine under which other machines reach it. Empty: the loopback when all ranks are on one
  /// machine, else what LibTorch chooses (GLOO_SOCKET_IFNAME, then the machine's host name).
  std::string address{};
  /// For debugging: calls that go on in the background are compared at once, and an error about calls that do not match tells the
  /// calls before.
  bool check_order = false;
};
/// Throws ConfigError that names the field.
void validate(const ConnectOptions& options);

/// The group of `world_size` processes over LibTorch's Gloo; a collective of all of them. With a `world_size` of 1 it needs no
/// store, and is that of `make_single_process_group`.
///
/// SIGPIPE is ignored from then on unless the program has a handler for it: the end of another rank must not end this one.
///
/// What its collectives add to those of Group:
/// - each waits at most `timeout` (and a second to find out who is missing) until all ranks have called it, and as long again for
///   every message of more than some 4000 bytes that it brings. A CommError names the operation, the ranks that did not arrive
///   and the wait, and leaves the group broken; the other ranks then fail at once when they wait for this one, and within a
///   second when they wait for others.
/// - what makes connections (this function, `make_subgroup`, `make_gradient_reducer`, `rebuild`) names lost ranks too, and may
///   learn of them only when `timeout` is over; it waits so at the store, and again for the connections.
/// - ranks that make different calls all get a CommError that says who called what, and the group is broken.
/// - a value that cannot be sent (a sparse tensor, or what is no number in `reduce_dict`) is an Error on every rank and leaves
/// the group as it was.
/// - tensors arrive contiguous on the CPU; they share no memory, and need no gradient.
///
/// Throws CommError: the store cannot be reached (the message shows its address), a rank is missing (it is named), or ranks were
/// started with another world size or another build. Throws ConfigError on every rank when the ranks of a machine do not follow
/// one another.
std::shared_ptr<Group> connect_group(const ConnectOptions& options);

}  // namespace treadle

#pragma once

#include <launch/dist_url.hpp>
#include <launch/outcome.hpp>
#include <treadle/launch/held_port.hpp>
#include <treadle/launch/launch.hpp>

#include <torch/csrc/distributed/c10d/Store.hpp>

#include <functional>
#include <optional>

namespace treadle {

/// Waits until the time point, or shorter; throws to end what waits.
using Wait = std::function<void(Clock::time_point)>;

/// Holds the port of `url` when this machine serves the store there; `num_machines` is that of the run. A name of this machine
/// that means the loopback here, as Debian's hosts file has it, stands for all of its addresses.
HeldPort hold_port(const DistUrl& url, int num_machines);
/// Makes the file in which the processes of a run meet. Two runs in one file hang or mix, so one that exists is an IoError.
void make_meeting_file(const std::filesystem::path& file);
/// Waits until `maker` ("rank 0") has made that file; throws CommError when the time is over. Who opens one that is absent makes
/// it, and the next run is refused.
void await_meeting_file(const std::filesystem::path& file, const std::string& maker, std::chrono::milliseconds timeout, int rank,
                        const Wait& wait);
/// The store behind a held port. It starts threads.
c10::intrusive_ptr<c10d::Store> serve_store(HeldPort& port, const DistUrl& url, std::chrono::milliseconds timeout);
/// A store that another process serves: waits until something listens there. Throws CommError that shows `url` and why it could
/// not be reached.
c10::intrusive_ptr<c10d::Store> reach_store(const DistUrl& url, std::chrono::milliseconds timeout, int rank, const Wait& wait);

/// Where the ranks, and the launchers of several machines, meet. Launcher's thread only.
class MeetingPoint {
 public:
  /// Holds the port, or makes the file, on machine 0. Starts no thread. Throws IoError when that cannot be.
  explicit MeetingPoint(const LaunchOptions& options);
  ~MeetingPoint();
  MeetingPoint(const MeetingPoint&) = delete;
  MeetingPoint& operator=(const MeetingPoint&) = delete;

  /// The address for the ranks of this machine.
  const DistUrl& url() const noexcept { return url_; }
  /// Opens the store on machine 0, and reaches it on the others; throws CommError when that takes longer than the time limit, and
  /// ConfigError when the machines were given different numbers. Starts threads.
  void open(const Wait& wait);
  /// Tells the other machines how the ranks of this one ended, and waits for what they tell.
  Outcome agree(std::int64_t generation, const Outcome& own, const Wait& wait);
  /// The last call: on machine 0 the store stays open until the others have called it too, up to the grace time.
  void leave(const Wait& wait) noexcept;

 private:
  void compare_plans();
  std::optional<std::string> read(const std::string& key, Clock::time_point deadline, const Wait& wait);

  LaunchOptions options_;
  DistUrl url_;
  std::optional<HeldPort> port_;
  bool owns_file_ = false;
  c10::intrusive_ptr<c10d::Store> store_;
};

}  // namespace treadle

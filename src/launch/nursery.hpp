#pragma once

#include <launch/clock.hpp>
#include <launch/descriptor.hpp>

#include <csignal>
#include <cstdint>
#include <functional>
#include <optional>
#include <vector>

namespace treadle {

/// The process whose children the ranks are. It has one thread for all its life, so forking it is safe however many threads the
/// launcher and LibTorch start; orphaned descendants of the ranks become its children; and when the launcher is gone, in
/// whatever way, it kills all of its descendants and ends.
///
/// - It leads a process group of its own, in which the ranks are: what the terminal sends reaches the launcher alone, which
///   passes it on.
/// - Every signal that can be is blocked in it. Stopped, it is woken when the launcher dies.
/// - When it dies itself, the kernel kills the ranks, and the launcher (`~Nursery`) their descendants.
///
/// Launcher's thread only.
class Nursery {
 public:
  /// What a rank does; the result is its exit status. Runs in the process of the rank.
  using RankBody = std::function<int(int local_rank, std::int64_t generation)>;

  struct News {
    enum class Kind : std::int32_t { ended, stopped, resumed, not_started, swept, gone };
    Kind kind = Kind::gone;
    int local_rank = 0;
    int value = 0;  ///< ended: as waitpid tells it; stopped: the signal; not_started: errno
    Clock::time_point time{};
  };

  /// Forks it. `mask` is the signal mask of the ranks; the calling process must have one thread.
  Nursery(int num_processes, RankBody body, const sigset_t& mask);
  /// Ends it and all descendants.
  ~Nursery();
  Nursery(const Nursery&) = delete;
  Nursery& operator=(const Nursery&) = delete;

  /// Forks the ranks.
  void start(std::int64_t generation) const;
  /// Sends a signal to the process group of the ranks.
  void signal(int number) const;
  /// Kills every descendant; `swept` tells when none is left.
  void sweep() const;

  /// To be called on SIGCHLD: a nursery that something has stopped goes on. True when it was.
  bool keep_going();

  /// The next piece of news, if there is one; `gone` for ever when the nursery has died. Readable when there may be one:
  std::optional<News> next() const;
  int descriptor() const noexcept { return channel_.get(); }

 private:
  void order(int kind, std::int64_t value) const;

  Descriptor channel_;
  pid_t pid_ = -1;  // negative when it has been waited for
  std::vector<pid_t> children_before_;
  bool was_subreaper_ = false;
};

}  // namespace treadle

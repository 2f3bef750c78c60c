#include <launch/nursery_process.hpp>
#include <launch/process_tree.hpp>

#include <fcntl.h>
#include <poll.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstdio>
#include <map>
#include <string>

namespace treadle {
namespace {

class NurseryProcess {
 public:
  NurseryProcess(Descriptor channel, int num_processes, const Nursery::RankBody& body, const sigset_t& rank_mask)
      : channel_(std::move(channel)), num_processes_(num_processes), body_(body), rank_mask_(rank_mask) {
    sigset_t children;
    sigemptyset(&children);
    sigaddset(&children, SIGCHLD);
    children_ = Descriptor(signalfd(-1, &children, SFD_CLOEXEC | SFD_NONBLOCK));
  }

  /// Returns when the launcher is gone.
  void run() {
    for (;;) {
      std::array<pollfd, 2> sources{{{channel_.get(), POLLIN, 0}, {children_.get(), POLLIN, 0}}};
      if (poll(sources.data(), sources.size(), -1) < 0) continue;
      if (sources[1].revents != 0) {
        signalfd_siginfo ignored{};
        while (read(children_.get(), &ignored, sizeof ignored) > 0) {
        }
        reap(WNOHANG);
      }
      if (sources[0].revents != 0 && !obey()) return;
    }
  }

  /// Kills until no child is left: orphans of those that are killed become children of this process.
  void sweep() {
    do {
      for (const pid_t pid : descendants_of(getpid())) kill(pid, SIGKILL);
    } while (reap(0));
  }

 private:
  bool obey() {
    NurseryOrder order;
    const ssize_t size = recv(channel_.get(), &order, sizeof order, 0);
    if (size < 0 && errno == EINTR) return true;
    if (size != sizeof order) return false;
    switch (order.kind) {
      case NurseryOrder::start:
        for (int rank = 0; rank < num_processes_; ++rank) start(rank, order.value);
        break;
      case NurseryOrder::signal:
        kill(0, static_cast<int>(order.value));
        break;
      case NurseryOrder::sweep:
        sweep();
        tell({.kind = Nursery::News::Kind::swept});
        break;
      default:
        break;
    }
    return true;
  }

  void start(int local_rank, std::int64_t generation) {
    const pid_t nursery = getpid();
    const pid_t pid = fork();
    if (pid == 0) become_rank(local_rank, generation, nursery);
    if (pid < 0) {
      tell({.kind = Nursery::News::Kind::not_started, .local_rank = local_rank, .value = errno});
    } else {
      ranks_[pid] = local_rank;
    }
  }

  [[noreturn]] void become_rank(int local_rank, std::int64_t generation, pid_t nursery) {
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getppid() != nursery) _exit(1);
    prctl(PR_SET_NAME, ("treadle:" + std::to_string(local_rank)).c_str());
    channel_.reset();
    children_.reset();
    if (const Descriptor nothing(open("/dev/null", O_RDONLY | O_CLOEXEC)); nothing.get() >= 0) dup2(nothing.get(), STDIN_FILENO);
    // The ranks are no foreground processes of the terminal, and write to it all the same.
    std::signal(SIGTTOU, SIG_IGN);
    sigprocmask(SIG_SETMASK, &rank_mask_, nullptr);
    const int status = body_(local_rank, generation);
    std::fflush(nullptr);
    _exit(status);
  }

  /// Takes note of children whose state has changed: of all that have by now, or with `options` 0 of one, which it waits for, and
  /// then of those that have by then. False when there is no child.
  bool reap(int options) {
    for (bool first = true;; first = false) {
      int status = 0;
      const pid_t pid = waitpid(-1, &status, (first ? options : WNOHANG) | WUNTRACED | WCONTINUED);
      if (pid < 0 && errno == EINTR) continue;
      if (pid <= 0) return pid == 0;
      const auto rank = ranks_.find(pid);
      if (rank == ranks_.end()) continue;
      using Kind = Nursery::News::Kind;
      if (WIFSTOPPED(status)) {
        tell({.kind = Kind::stopped, .local_rank = rank->second, .value = WSTOPSIG(status)});
      } else if (WIFCONTINUED(status)) {
        tell({.kind = Kind::resumed, .local_rank = rank->second});
      } else {
        tell({.kind = Kind::ended, .local_rank = rank->second, .value = status});
        ranks_.erase(rank);
      }
    }
  }

  /// A launcher that is gone needs no news.
  void tell(Nursery::News news) const {
    news.time = Clock::now();
    while (send(channel_.get(), &news, sizeof news, MSG_NOSIGNAL) < 0 && errno == EINTR) {
    }
  }

  Descriptor channel_, children_;
  int num_processes_;
  const Nursery::RankBody& body_;
  sigset_t rank_mask_;
  std::map<pid_t, int> ranks_;
};

}  // namespace

void run_nursery(Descriptor channel, int num_processes, const Nursery::RankBody& body, const sigset_t& rank_mask,
                 pid_t launcher) noexcept {
  sigset_t all;
  sigfillset(&all);
  sigprocmask(SIG_SETMASK, &all, nullptr);
  setpgid(0, 0);
  prctl(PR_SET_CHILD_SUBREAPER, 1);
  prctl(PR_SET_NAME, "treadle:nursery");
  // A nursery that is stopped when the launcher dies goes on, and finds the channel closed.
  prctl(PR_SET_PDEATHSIG, SIGCONT);
  NurseryProcess process(std::move(channel), num_processes, body, rank_mask);
  if (getppid() == launcher) process.run();
  process.sweep();
  _exit(0);
}

}  // namespace treadle

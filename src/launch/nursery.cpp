#include <launch/nursery.hpp>
#include <launch/nursery_process.hpp>
#include <launch/process_tree.hpp>
#include <treadle/base/errors.hpp>

#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>

namespace treadle {

Nursery::Nursery(int num_processes, RankBody body, const sigset_t& mask) : children_before_(children_of(getpid())) {
  std::array<int, 2> ends{};
  if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends.data()) != 0) throw IoError("make", "a socket", errno);
  channel_ = Descriptor(ends[0]);
  Descriptor far_end(ends[1]);
  const pid_t launcher = getpid();
  pid_ = fork();
  if (pid_ < 0) throw IoError("start", "the process that holds the ranks", errno);
  if (pid_ == 0) {
    channel_.reset();
    run_nursery(std::move(far_end), num_processes, body, mask, launcher);
  }
  // Should the nursery be killed, its orphans become children of this process.
  int subreaper = 0;
  prctl(PR_GET_CHILD_SUBREAPER, &subreaper);
  was_subreaper_ = subreaper != 0;
  prctl(PR_SET_CHILD_SUBREAPER, 1);
}

Nursery::~Nursery() {
  channel_.reset();
  if (pid_ > 0) {
    kill(pid_, SIGCONT);
    while (waitpid(pid_, nullptr, 0) < 0 && errno == EINTR) {
    }
  }
  // None are left unless the nursery was killed; those are its orphans, and the orphans of these.
  for (bool left = true; left;) {
    left = false;
    for (const pid_t child : children_of(getpid())) {
      if (std::find(children_before_.begin(), children_before_.end(), child) != children_before_.end()) continue;
      for (const pid_t descendant : descendants_of(child)) kill(descendant, SIGKILL);
      kill(child, SIGKILL);
      while (waitpid(child, nullptr, 0) < 0 && errno == EINTR) {
      }
      left = true;
    }
  }
  if (!was_subreaper_) prctl(PR_SET_CHILD_SUBREAPER, 0);
}

bool Nursery::keep_going() {
  int status = 0;
  if (pid_ < 0 || waitpid(pid_, &status, WNOHANG | WUNTRACED) != pid_) return false;
  if (WIFSTOPPED(status)) {
    kill(pid_, SIGCONT);
    return true;
  }
  pid_ = -1;
  return false;
}

void Nursery::order(int kind, std::int64_t value) const {
  const NurseryOrder order{kind, value};
  // One that is gone is told of by `next`.
  while (::send(channel_.get(), &order, sizeof order, MSG_NOSIGNAL) < 0 && errno == EINTR) {
  }
}

void Nursery::start(std::int64_t generation) const { order(NurseryOrder::start, generation); }
void Nursery::signal(int number) const { order(NurseryOrder::signal, number); }
void Nursery::sweep() const { order(NurseryOrder::sweep, 0); }

std::optional<Nursery::News> Nursery::next() const {
  News news;
  ssize_t size = 0;
  do {
    size = recv(channel_.get(), &news, sizeof news, MSG_DONTWAIT);
  } while (size < 0 && errno == EINTR);
  if (size == sizeof news) return news;
  if (size < 0 && errno == EAGAIN) return std::nullopt;
  return News{.kind = News::Kind::gone, .time = Clock::now()};
}

}  // namespace treadle

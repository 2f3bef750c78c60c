#include <launch/signals.hpp>
#include <treadle/base/errors.hpp>

#include <sys/signalfd.h>
#include <unistd.h>

#include <cerrno>

namespace treadle {

SignalInbox::SignalInbox() {
  sigset_t taken;
  sigemptyset(&taken);
  for (int number : {SIGINT, SIGTERM, SIGTSTP, SIGCHLD}) sigaddset(&taken, number);
  // LibTorch's store writes to connections of ranks that are dead; the error that it gets is all it needs.
  sigset_t blocked = taken;
  sigaddset(&blocked, SIGPIPE);
  pthread_sigmask(SIG_BLOCK, &blocked, &before_);
  inbox_ = Descriptor(signalfd(-1, &taken, SFD_CLOEXEC | SFD_NONBLOCK));
  if (inbox_.get() < 0) {
    const int number = errno;
    pthread_sigmask(SIG_SETMASK, &before_, nullptr);
    throw IoError("make a descriptor for", "signals", number);
  }
}

SignalInbox::~SignalInbox() {
  if (sigismember(&before_, SIGPIPE) == 0) {
    sigset_t pipe;
    sigemptyset(&pipe);
    sigaddset(&pipe, SIGPIPE);
    const timespec at_once{};
    while (sigtimedwait(&pipe, nullptr, &at_once) > 0) {
    }
  }
  pthread_sigmask(SIG_SETMASK, &before_, nullptr);
}

std::optional<int> SignalInbox::next() const {
  signalfd_siginfo info{};
  return ::read(inbox_.get(), &info, sizeof info) == sizeof info ? std::optional<int>(static_cast<int>(info.ssi_signo))
                                                                 : std::nullopt;
}

}  // namespace treadle

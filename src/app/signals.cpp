#include <app/signals.hpp>
#include <treadle/base/errors.hpp>

#include <fcntl.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <csignal>

namespace treadle {
namespace {

// The handler may do little more than write to a pipe; the thread at its other end does the rest.
std::array<int, 2> pipe_ends{-1, -1};
constexpr unsigned char kEnd = 0;
constexpr std::array kSignals = {SIGINT, SIGTERM};

void forward(int number) {
  const int saved = errno;
  const auto byte = static_cast<unsigned char>(number);
  [[maybe_unused]] const auto written = ::write(pipe_ends[1], &byte, 1);
  for (int each : kSignals) std::signal(each, SIG_DFL);
  errno = saved;
}

void handle(int number) {
  struct sigaction action{};
  action.sa_handler = forward;
  action.sa_flags = SA_RESTART;
  sigaction(number, &action, nullptr);
}

}  // namespace

SignalWatch::SignalWatch(std::function<void(int)> on_signal) : on_signal_(std::move(on_signal)) {
  if (pipe2(pipe_ends.data(), O_CLOEXEC) != 0) throw IoError("make a pipe for", "signals", errno);
  thread_ = std::thread([this] { watch(); });
  for (std::size_t i = 0; i < kSignals.size(); ++i) {
    sigaction(kSignals[i], nullptr, &before_[i]);
    // A job in the background ignores SIGINT, and goes on doing so.
    if (before_[i].sa_handler != SIG_IGN) handle(kSignals[i]);
  }
}

SignalWatch::~SignalWatch() {
  for (std::size_t i = 0; i < kSignals.size(); ++i) sigaction(kSignals[i], &before_[i], nullptr);
  [[maybe_unused]] const auto written = ::write(pipe_ends[1], &kEnd, 1);
  thread_.join();
  ::close(pipe_ends[0]);
  ::close(pipe_ends[1]);
}

void SignalWatch::watch() {
  for (unsigned char byte = kEnd;;) {
    const auto count = ::read(pipe_ends[0], &byte, 1);
    if (count < 0 && errno == EINTR) continue;
    if (count != 1 || byte == kEnd) return;
    on_signal_(byte);
  }
}

}  // namespace treadle

#pragma once

#include <array>
#include <csignal>
#include <functional>
#include <thread>

namespace treadle {

/// Turns the first SIGINT or SIGTERM of the process into a call, on a thread of its own; after it the signals act as usual, so a
/// second one ends the process at once. One at a time, made and destroyed by the main thread; destruction gives the signals back.
class SignalWatch {
 public:
  /// `on_signal` gets the number of the signal.
  explicit SignalWatch(std::function<void(int)> on_signal);
  ~SignalWatch();
  SignalWatch(const SignalWatch&) = delete;
  SignalWatch& operator=(const SignalWatch&) = delete;

 private:
  void watch();
  std::function<void(int)> on_signal_;
  std::thread thread_;
  std::array<struct sigaction, 2> before_{};
};

}  // namespace treadle

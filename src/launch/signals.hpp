#pragma once

#include <launch/descriptor.hpp>

#include <csignal>
#include <optional>

namespace treadle {

/// The signals that the launcher passes on, and those that tell of its children, as a descriptor to poll. While it lives the
/// calling thread, and every thread that it starts, is interrupted by none of them, and not by SIGPIPE. Signals that are ignored
/// stay ignored.
class SignalInbox {
 public:
  SignalInbox();
  ~SignalInbox();
  SignalInbox(const SignalInbox&) = delete;
  SignalInbox& operator=(const SignalInbox&) = delete;

  /// The next signal, if one has come.
  std::optional<int> next() const;
  int descriptor() const noexcept { return inbox_.get(); }
  /// The mask of before.
  const sigset_t& before() const noexcept { return before_; }

 private:
  Descriptor inbox_;
  sigset_t before_{};
};

}  // namespace treadle

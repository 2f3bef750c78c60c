#pragma once

#include <launch/clock.hpp>

#include <optional>
#include <string>

namespace treadle {

/// Why the processes of one generation ended early: what one rank, or one machine, did.
struct Failure {
  /// In the order in which a failure explains others: a rank that lost the others suffers from what another did.
  enum class Kind { failed, lost_others };
  Kind kind = Kind::failed;
  int rank = 0;  ///< global
  /// The exit status that the run has for it; 128 + the number of a signal.
  int status = 1;
  bool exception = true;  ///< false: `main` returned `status`
  bool may_restart = true;
  std::string text{};  ///< one line, without the rank
  Clock::time_point time{};
};

/// How one generation of processes ended: well without a failure.
struct Outcome {
  std::optional<Failure> failure{};
};

/// For other machines.
std::string to_text(const Outcome& outcome);
Outcome outcome_from_text(const std::string& text);

/// The outcome of a run of several machines: the failure that explains the others.
Outcome merge(const Outcome& a, const Outcome& b);

}  // namespace treadle

#pragma once

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

namespace treadle {

class Group;

/// Numbers by name, in the order of the model's LossDict.
using NamedNumbers = std::vector<std::pair<std::string, double>>;

/// What a step tells the others about itself.
struct StepFacts {
  NamedNumbers losses{};
  double data_time = 0;  ///< seconds this rank waited for its batch
  bool finite = true;    ///< false: a loss or gradient is NaN or infinite
};

/// What every rank decides alike from the facts of all ranks. Losses carry the names of this rank.
struct StepVerdict {
  NamedNumbers losses;   ///< mean over the ranks, summed as numpy's mean does
  double data_time = 0;  ///< seconds: the maximum over the ranks
  bool finite = true;    ///< false when any rank's step was not finite
  bool stop = false;     ///< true when any rank asked to stop
};

/// The exchange of a step: each rank's facts travel as a row of numbers, started after the forward pass, waited for before the
/// optimizer. Loop thread only. In one process nothing is sent.
class StepExchange {
 public:
  /// Sends this rank's facts and whether it asks to stop. Throws CommError when an exchange is under way.
  void start(Group& group, const StepFacts& facts, bool stop);
  /// Waits for all ranks. Throws CommError when their losses have other names than this rank's.
  /// The verdict is valid until the next `start`.
  const StepVerdict& wait(Group& group);
  /// True between `start` and `wait`.
  bool started() const noexcept { return started_; }
  /// Forgets an exchange that will not be waited for.
  void reset() noexcept { started_ = false; }

 private:
  bool started_ = false;
  std::vector<double> row_;
  StepVerdict verdict_;
};

}  // namespace treadle

#pragma once

#include <treadle/events/event_storage.hpp>

namespace treadle {

/// The scalars of one iteration that a writer has yet to write. The names are those of the storage, and live as long.
struct ScalarLine {
  std::int64_t iteration;
  std::vector<std::pair<std::string_view, double>> scalars;
};

/// Knows what a writer has already written of a storage's scalars.
///
/// A smoothed scalar: the median at its newest iteration, when that is above the one it was written for last. (In Detectron2 it
/// must be above the highest that any scalar was written for, which drops one that comes an iteration later than the rest.) Of
/// unsmoothed ones every value is new once, at its own iteration.
class ScalarCursor final : public Stateful {
 public:
  ScalarCursor(std::int64_t window, std::vector<std::string> latest_only)
      : window_(window), latest_only_(std::move(latest_only)) {}

  /// What is new, by ascending iteration; of two values of one scalar for one iteration the newer stands in the later line.
  std::vector<ScalarLine> pending(const EventStorage& storage) const;
  /// Takes all that is pending as written.
  void advance(const EventStorage& storage);

  /// `last_write`: an iteration by name of smoothed scalar; `written`: a number of values by name of unsmoothed one.
  Dict state_dict() const override;
  void check_state_dict(const Dict& state) const override;
  void load_state_dict(const Dict& state) override;

 private:
  std::int64_t last_write(const std::string& name) const;
  std::int64_t written(const std::string& name, const HistoryBuffer& history) const;

  std::int64_t window_;
  std::vector<std::string> latest_only_;
  std::unordered_map<std::string, std::int64_t> last_write_, written_;
};

}  // namespace treadle

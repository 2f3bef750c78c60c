#pragma once

#include <treadle/base/stateful.hpp>

#include <cstdint>
#include <vector>

namespace treadle {

struct HistoryBufferOptions {
  std::int64_t max_length = 1'000'000;  ///< values kept, at least 1; the oldest makes room for the newest
};
/// Throws ConfigError when a field is out of range.
void validate(const HistoryBufferOptions& options);

/// The values of one scalar in the order they came, with averages over the newest of them. One thread at a time.
///
/// Numbers equal those of fvcore's HistoryBuffer (numpy's mean and median) in every bit, NaN and infinities included.
/// Memory is bounded by `max_length`, and no value is copied when an old one goes. `update` allocates nothing once the buffer has
/// its full length; up to 16384 values it has that from the first update on.
class HistoryBuffer final : public Stateful {
 public:
  struct Sample {
    double value;
    std::int64_t iteration;
    bool operator==(const Sample&) const = default;
  };

  /// Throws ConfigError (see validate).
  explicit HistoryBuffer(HistoryBufferOptions options = {});

  /// Appends `value` of `iteration`; the second form counts the iterations itself: 0, 1, 2, …
  void update(double value, std::int64_t iteration);
  void update(double value) { update(value, count_); }

  /// The newest value. Throws Error when there is none.
  double latest() const;
  /// The median and the mean of the newest `window` values, of all kept ones when `window` is 0 or larger than their number; NaN
  /// when there is none. Throws Error when `window` is negative.
  double median(std::int64_t window) const;
  double avg(std::int64_t window) const;
  /// The running mean of every value there ever was, those no longer kept included; 0 when there was none.
  double global_avg() const noexcept { return global_avg_; }

  /// How many values are kept, and how many there ever were.
  std::int64_t size() const noexcept { return static_cast<std::int64_t>(ring_.size()); }
  std::int64_t count() const noexcept { return count_; }
  /// The kept value at `index`, 0 the oldest. Not checked: `index` must be below `size()`.
  const Sample& operator[](std::int64_t index) const noexcept {
    const std::size_t at = begin_ + static_cast<std::size_t>(index);
    return ring_[at < ring_.size() ? at : at - ring_.size()];
  }
  /// A copy of all kept values, the oldest first.
  std::vector<Sample> values() const;
  /// How many of the newest values in a row have an iteration above that of the newest less `window`.
  std::int64_t count_within(std::int64_t window) const noexcept;
  void clear() noexcept;

  /// `values` (float64) and `iterations` (int64), the oldest first, `count`, `global_avg`. The tensors are copies.
  /// A state longer than this buffer's `max_length` loads its newest values.
  Dict state_dict() const override;
  void check_state_dict(const Dict& state) const override;
  void load_state_dict(const Dict& state) override;

 private:
  std::vector<double> newest(std::int64_t window) const;

  std::int64_t max_length_;
  std::vector<Sample> ring_;  // grows to max_length_; from then on begin_ is the oldest
  std::size_t begin_ = 0;
  std::int64_t count_ = 0;
  double global_avg_ = 0;
};

}  // namespace treadle

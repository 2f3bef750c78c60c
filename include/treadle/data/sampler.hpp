#pragma once

#include <treadle/base/stateful.hpp>
#include <treadle/comm/group.hpp>

#include <cstdint>
#include <memory>
#include <optional>
#include <vector>

namespace treadle {

/// The order in which a data set is gone through. Loop thread only.
///
/// All ranks share one order of samples and each takes its part of it; rank and number of ranks are read from the Group at every
/// call. The state is a place in the common order, equal on all ranks that have drawn equally often: it may be loaded by any rank
/// of a group of any size, and the order goes on from there. `state_dict` is cheap, and later calls of `next` do not change what
/// it returned. Loading takes the same time wherever the place is: nothing is replayed.
class Sampler : public Stateful {
 public:
  /// The next index of this rank, or nothing at the end of a pass; the call after that begins a new pass.
  virtual std::optional<std::int64_t> next() = 0;
  /// Where the index that `next` would return now stands in the common order: 0, 1, … from the start of the run. No two samples
  /// have the same one, so a sample's randomness may be drawn from it.
  virtual std::int64_t position() const = 0;
  /// Leaves the pass under way; an infinite order begins again from its start.
  virtual void rewind() = 0;
  /// How many indices a whole pass of this rank has; nothing when it is infinite.
  virtual std::optional<std::int64_t> indices_per_pass() const = 0;
  /// How many places of the common order are one epoch; nothing when that is the size of the data set, or no fixed number.
  virtual std::optional<std::int64_t> samples_per_epoch() const { return std::nullopt; }
};

/// 0, 1, …, size - 1 on every rank, pass after pass. Throws ConfigError unless size is at least 1.
class SequentialSampler final : public Sampler {
 public:
  explicit SequentialSampler(std::int64_t size);
  std::optional<std::int64_t> next() override;
  std::int64_t position() const override { return pass_ * size_ + place_; }
  void rewind() override;
  std::optional<std::int64_t> indices_per_pass() const override { return size_; }
  Dict state_dict() const override;
  void check_state_dict(const Dict& state) const override;
  void load_state_dict(const Dict& state) override;

 private:
  std::int64_t size_;
  std::int64_t pass_ = 0;
  std::int64_t place_ = 0;
};

/// Each rank's contiguous part of 0, …, size - 1, in order: the parts differ by at most one in length, the first are the longer
/// ones, and some are empty when there are more ranks than samples (Detectron2's split). `position` is the index itself, so that
/// every pass sees the same randomness. Throws ConfigError unless size is at least 1.
class InferenceSampler final : public Sampler {
 public:
  InferenceSampler(std::int64_t size, std::shared_ptr<Group> group);
  std::optional<std::int64_t> next() override;
  std::int64_t position() const override;
  void rewind() override { place_ = 0; }
  std::optional<std::int64_t> indices_per_pass() const override;
  /// The place is that of this rank; a state of a group of another size is refused.
  Dict state_dict() const override;
  void check_state_dict(const Dict& state) const override;
  void load_state_dict(const Dict& state) override;

 private:
  std::int64_t size_;
  std::shared_ptr<Group> group_;
  std::int64_t place_ = 0;
};

/// The half-open range of indices that `rank` of `world_size` has under InferenceSampler; `total` may be 0.
struct IndexRange {
  std::int64_t begin, end;
  bool operator==(const IndexRange&) const = default;
};
IndexRange inference_range(std::int64_t total, int rank, int world_size);

}  // namespace treadle

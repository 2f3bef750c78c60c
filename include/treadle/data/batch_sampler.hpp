#pragma once

#include <treadle/data/dataset.hpp>
#include <treadle/data/sampler.hpp>

#include <cstdint>
#include <deque>
#include <memory>
#include <optional>
#include <vector>

namespace treadle {

/// A sample to be made: its index in the data set, and its position in the common order, from which its randomness is drawn.
struct SamplePlace {
  std::int64_t index;
  std::int64_t position;
  bool operator==(const SamplePlace&) const = default;
};

/// Which samples stand together in a batch of this rank, and in which order the batches come. Loop thread only.
///
/// State: as Sampler's, cheap to ask for and O(1) to load.
class BatchSampler : public Stateful {
 public:
  /// The samples of the next batch, at least one, or nothing at the end of a pass; the call after that begins a new pass.
  virtual std::optional<std::vector<SamplePlace>> next() = 0;
  virtual void rewind() = 0;
  /// How many batches a whole pass of this rank has; nothing when that is infinite or unknown.
  virtual std::optional<std::int64_t> batches_per_pass() const = 0;
  /// As Sampler's.
  virtual std::optional<std::int64_t> samples_per_epoch() const { return std::nullopt; }
};

/// The indices of a sampler, `batch_size` at a time. The state is that of the sampler. Throws ConfigError unless there is a
/// sampler and `batch_size` is at least 1.
class FixedBatchSampler final : public BatchSampler {
 public:
  /// `drop_last`: leave out a last batch of a pass that is not full.
  FixedBatchSampler(std::unique_ptr<Sampler> sampler, std::int64_t batch_size, bool drop_last = false);
  std::optional<std::vector<SamplePlace>> next() override;
  void rewind() override;
  std::optional<std::int64_t> batches_per_pass() const override;
  std::optional<std::int64_t> samples_per_epoch() const override { return sampler_->samples_per_epoch(); }
  Dict state_dict() const override { return after_last_; }
  void check_state_dict(const Dict& state) const override { sampler_->check_state_dict(state); }
  void load_state_dict(const Dict& state) override;

 private:
  std::unique_ptr<Sampler> sampler_;
  std::int64_t batch_size_;
  bool drop_last_;
  Dict after_last_;  // the sampler's state after the last batch
};

/// Batches whose samples are all of one group, by the rule of Detectron2's AspectRatioGroupedDataset: each rank draws its part of
/// the common order, one sample after the other, and lets them wait by group until one group has `batch_size`, which are its next
/// batch.
///
/// Every rank works this out for all ranks, so all have the same state without a word said: {"kind", "sampler", "samples",
/// "counts"}, the sampler's place, and the samples that wait or are dealt but not drawn, rank by rank, as (index, position). It
/// may be loaded by a group of any size: after a change of size or batch the waiting samples are pooled in rank order and dealt
/// anew, in turn, before the order goes on, so that no sample is lost or comes twice. A finite pass ends when some rank has no
/// full batch left; what waits is dropped.
class GroupedBatchSampler final : public BatchSampler {
 public:
  /// `sampler`: the whole common order, made without a group. `group_of[index]`: which group a sample is of. `batch_size`: of
  /// this rank. Throws ConfigError when one is missing or `batch_size` is below 1; `next` does when the sampler draws an index
  /// that `group_of` does not have.
  GroupedBatchSampler(std::unique_ptr<Sampler> sampler, std::vector<std::int32_t> group_of, std::int64_t batch_size,
                      std::shared_ptr<Group> group);
  std::optional<std::vector<SamplePlace>> next() override;
  void rewind() override;
  std::optional<std::int64_t> batches_per_pass() const override { return std::nullopt; }
  std::optional<std::int64_t> samples_per_epoch() const override { return sampler_->samples_per_epoch(); }
  Dict state_dict() const override;
  void check_state_dict(const Dict& state) const override;
  void load_state_dict(const Dict& state) override;

 private:
  struct Part {
    std::deque<SamplePlace> dealt;  // not drawn yet
    std::vector<SamplePlace> waiting;
  };
  std::optional<std::vector<SamplePlace>> fill(Part& part);
  bool deal();
  void pool_and_deal();
  bool fits() const;
  std::int32_t group_of(const SamplePlace& place) const { return group_of_[static_cast<std::size_t>(place.index)]; }

  std::unique_ptr<Sampler> sampler_;
  std::vector<std::int32_t> group_of_;
  std::int64_t batch_size_;
  std::shared_ptr<Group> group_;
  std::vector<Part> parts_;  // one for each rank
};

/// 0 for an image wider than high, else 1: Detectron2's two groups of GroupedBatchSampler. Nothing when the data set does not
/// know the size of an image. Reads every image's head where sizes are not at hand.
std::optional<std::vector<std::int32_t>> aspect_ratio_groups(const Dataset& dataset);

}  // namespace treadle

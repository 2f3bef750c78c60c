#pragma once

#include <treadle/data/sampler.hpp>

#include <ATen/core/Generator.h>

#include <deque>
#include <span>

namespace treadle {

/// The infinite samplers of training, which are Detectron2's: one endless stream of epochs, of which rank r of W takes the
/// elements r, r + W, r + 2W, … Index for index the streams of Python for the same seed, whatever the number of ranks.
///
/// The state is {"kind", "size", "position", "epoch_start", "generator"}: the place in the stream that all ranks have reached,
/// where the epoch of that place begins, and the random generator at that beginning in the format of Python's
/// `torch.Generator.get_state()` (the generator runs on from epoch to epoch, so a seed and a number would not do). It fits any
/// number of ranks.
class EpochSampler : public Sampler {
 public:
  std::optional<std::int64_t> next() final;
  std::int64_t position() const final;
  void rewind() final;
  std::optional<std::int64_t> indices_per_pass() const final { return std::nullopt; }
  Dict state_dict() const final;
  /// FormatError also when the state is of another kind of sampler or of a data set of another size.
  void check_state_dict(const Dict& state) const final;
  void load_state_dict(const Dict& state) final;

 protected:
  /// `seed`: when absent, one that all ranks share is drawn (a collective); `group`: null for a process alone.
  EpochSampler(const char* kind, std::int64_t size, std::optional<std::int64_t> seed, std::shared_ptr<Group> group);
  /// The indices of one epoch, at least one; takes its random numbers from `generator`.
  virtual std::vector<std::int64_t> draw_epoch(at::Generator& generator) const = 0;

 private:
  struct Epoch {
    std::int64_t start;    // its first element's place in the stream
    at::Tensor generator;  // the state before it was drawn; never written again
    std::vector<std::int64_t> indices;
    std::int64_t end() const { return start + static_cast<std::int64_t>(indices.size()); }
  };
  struct Place {
    std::int64_t position;
    std::int64_t epoch_start;
    at::Generator generator;
  };
  void draw_next();
  Place read(const Dict& state) const;

  const char* kind_;
  std::int64_t size_;
  std::uint64_t seed_;
  std::shared_ptr<Group> group_;
  std::int64_t position_ = 0;    // of rank 0's next element; the epoch it lies in is the first of epochs_
  std::deque<Epoch> epochs_;     // without gaps; several when an epoch is shorter than the number of ranks
  std::int64_t next_start_ = 0;  // where the epoch behind the last of epochs_ begins
  at::Tensor next_generator_;    // the state of generator_, which is to draw that epoch
  at::Generator generator_;
};

struct TrainingSamplerOptions {
  bool shuffle = true;                 ///< a new random order each epoch; else 0, 1, …, size - 1
  std::optional<std::int64_t> seed{};  ///< absent: drawn at random, the same on all ranks
};

/// Every index once per epoch. Throws ConfigError unless size is at least 1.
class TrainingSampler final : public EpochSampler {
 public:
  TrainingSampler(std::int64_t size, TrainingSamplerOptions options, std::shared_ptr<Group> group);

 private:
  std::vector<std::int64_t> draw_epoch(at::Generator& generator) const override;
  std::int64_t size_;
  bool shuffle_;
};

struct RandomSubsetOptions {
  double ratio = 1;  ///< in (0, 1]: the part of the data set that is used at all, int(size * ratio) samples
  bool shuffle = true;
  std::optional<std::int64_t> seed{};         ///< of the order
  std::optional<std::int64_t> subset_seed{};  ///< of the choice; absent: drawn at random, the same on all ranks
};
void validate(const RandomSubsetOptions& options);

/// A random part of the data set, chosen once, then gone through as TrainingSampler does. The seed of the choice is not in the
/// state: a run to be resumed gives one. Throws ConfigError when the options are out of range or the part is empty.
class RandomSubsetTrainingSampler final : public EpochSampler {
 public:
  RandomSubsetTrainingSampler(std::int64_t size, const RandomSubsetOptions& options, std::shared_ptr<Group> group);
  const std::vector<std::int64_t>& subset() const noexcept { return subset_; }
  std::optional<std::int64_t> samples_per_epoch() const override { return static_cast<std::int64_t>(subset_.size()); }

 private:
  std::vector<std::int64_t> draw_epoch(at::Generator& generator) const override;
  std::vector<std::int64_t> subset_;
  bool shuffle_;
};

/// Index i `factors[i]` times per epoch: its whole part always, once more with the probability of its fraction. Throws
/// ConfigError when a factor is negative or not finite, or all are zero.
class RepeatFactorTrainingSampler final : public EpochSampler {
 public:
  RepeatFactorTrainingSampler(std::vector<float> factors, TrainingSamplerOptions options, std::shared_ptr<Group> group);

 private:
  std::vector<std::int64_t> draw_epoch(at::Generator& generator) const override;
  std::vector<float> factors_;
  bool shuffle_;
};

struct WeightedSamplerOptions {
  std::int64_t samples_per_epoch = 0;  ///< drawn with one set of random numbers; 0: as many as there are samples
  bool replacement = true;             ///< false: no sample twice in an epoch
  std::optional<std::int64_t> seed{};  ///< absent: drawn at random, the same on all ranks
};

/// Each index with a probability proportional to its weight: epoch after epoch what PyTorch's WeightedRandomSampler gives with a
/// generator that runs on (torch.multinomial of the weights as doubles). Throws ConfigError when a weight is negative or not
/// finite, there are more than 2^24 (multinomial's limit), all are 0, or without replacement there are fewer positive ones than
/// samples in an epoch.
class WeightedTrainingSampler final : public EpochSampler {
 public:
  WeightedTrainingSampler(const std::vector<double>& weights, const WeightedSamplerOptions& options,
                          std::shared_ptr<Group> group);
  std::optional<std::int64_t> samples_per_epoch() const override { return samples_per_epoch_; }

 private:
  std::vector<std::int64_t> draw_epoch(at::Generator& generator) const override;
  at::Tensor weights_;
  std::int64_t samples_per_epoch_;
  bool replacement_;
};

/// The repeat factor of each image: the greatest over its categories c of max(1, sqrt(threshold / f(c))), where f(c) is the
/// fraction of images that have c, and 1 for an image without any (LVIS, appendix B.2). `square_root = false` leaves the root
/// out. Throws ConfigError unless threshold is at least 0.
std::vector<float> repeat_factors_from_category_frequency(std::span<const std::vector<std::int64_t>> categories_of_image,
                                                          double threshold, bool square_root = true);

}  // namespace treadle

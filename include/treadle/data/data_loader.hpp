#pragma once

#include <treadle/base/errors.hpp>
#include <treadle/data/batch_sampler.hpp>
#include <treadle/data/batch_source.hpp>
#include <treadle/data/dataset.hpp>
#include <treadle/data/loader_times.hpp>
#include <treadle/data/sampler.hpp>
#include <treadle/data/transforms.hpp>

#include <c10/core/Device.h>

#include <exception>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

namespace treadle {

/// Joins samples, all of the same data set, into the fields of a Batch.
using Collate = std::function<Dict(std::vector<Sample>)>;

/// The usual Collate: tensors of equal shape and type are stacked along a new first dimension, integers become an int64 tensor,
/// floats a float64 tensor, bools a bool tensor; what does not fit together (ragged tensors) and everything else becomes a List.
/// Throws FormatError when the samples differ in their fields.
Dict collate(std::vector<Sample> samples);
/// The same into memory of `memory`, which may be null.
Dict collate_into(std::vector<Sample> samples, BatchMemory* memory);

/// `num_workers`: one at first, one more while the caller waits, up to the number of processors; fewer when it no longer does.
inline constexpr int auto_workers = -1;

struct DataLoaderOptions {
  std::int64_t batch_size = 1;  ///< samples per batch of this rank; at least 1
  int num_workers = 1;          ///< threads that make batches; 0 makes them in `next` itself; or `auto_workers`
  int prefetch = 4;             ///< batches made ahead of the caller; at least 1, without meaning when there are no workers
  bool drop_last = false;       ///< leave out a last batch of a pass that is not full
  std::uint64_t seed = 0;       ///< of the samples' randomness
  Transform transform{};        ///< applied to each sample; may be empty
  Collate collate{};            ///< empty: `treadle::collate` into reused memory
  std::optional<c10::Device> device{};  ///< where batches are copied ahead of the caller; absent: they stay where they were made
  std::int64_t max_skipped = 0;  ///< above 0: samples that cannot be made are left out of their batch, warned about, and counted
                                 ///< over all ranks; the next one is an error. 0: the first is an error
  std::shared_ptr<Group> group{};  ///< the ranks among which skipped samples are counted; null: this process alone
  std::string name = "data";       ///< for messages
};
void validate(const DataLoaderOptions& options);

/// What went wrong with one sample, thrown in the thread that asked for its batch.
class SampleError : public Error {
 public:
  SampleError(const std::string& message, std::int64_t index, std::exception_ptr cause)
      : Error(message), index_(index), cause_(std::move(cause)) {}
  /// The sample's index in the data set.
  std::int64_t index() const noexcept { return index_; }
  /// What was thrown for it.
  const std::exception_ptr& cause() const noexcept { return cause_; }

 private:
  std::int64_t index_;
  std::exception_ptr cause_;
};

/// Makes batches of a data set in the order of a sampler, ahead of the caller, on threads of its own. Loop thread only.
///
/// The batches are the same bytes whatever the number of workers and the prefetch: order comes from the sampler alone, and sample
/// randomness is Rng(s, sampler position), where s is derived from the seed. Memory holds at most prefetch + 1 batches beside the
/// caller's, and goes from a batch that was dropped to one that is made. A transform, collate function or data set is called by
/// all workers at once; their OpenMP teams have one thread.
///
/// `next` throws SampleError when a sample cannot be made; the loader then stands where it stood before the call, and the next
/// call tries the same batch again. With `max_skipped` and a group of several ranks `next` is a collective, so that all ranks
/// give up at the same batch: all must draw equally often. A batch without any good sample is an error all the same. The
/// destructor waits for the samples under way, and for nothing else.
///
/// State: {"sampler", "seed"} after the last batch that `next` returned, with `max_skipped` also "skipped". After a change of the
/// group, `load_state_dict(state_dict())` makes what was prepared for the old one anew.
class DataLoader final : public BatchSource {
 public:
  /// Throws ConfigError when an option is out of range, or data set or sampler is null. Threads start with the first `next`.
  DataLoader(std::shared_ptr<const Dataset> dataset, std::unique_ptr<Sampler> sampler, DataLoaderOptions options);
  /// The sampler says what is in a batch: `batch_size` and `drop_last` have no meaning.
  DataLoader(std::shared_ptr<const Dataset> dataset, std::unique_ptr<BatchSampler> sampler, DataLoaderOptions options);
  ~DataLoader() override;

  std::optional<Batch> next() override;
  void rewind() override;
  std::optional<std::int64_t> batches_per_pass() const override;
  /// What the sampler says, else the size of the data set.
  std::optional<std::int64_t> samples_per_epoch() const override;
  std::optional<BatchWait> waited() const override { return times().waited; }
  std::string name() const override;

  Dict state_dict() const override;
  void check_state_dict(const Dict& state) const override;
  void load_state_dict(const Dict& state) override;

  const Dataset& dataset() const noexcept;
  /// What the batches returned so far cost.
  const LoaderTimes& times() const noexcept;
  /// Samples of this rank that were left out of the batches returned so far.
  std::int64_t skipped() const noexcept;

 private:
  class Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace treadle

#pragma once

#include <treadle/comm/group.hpp>
#include <treadle/data/data_loader.hpp>

#include <functional>
#include <memory>
#include <optional>
#include <string>

namespace treadle {

/// Makes the sampler of a training set. The samplers of training_samplers.hpp fit.
using MakeSampler =
    std::function<std::unique_ptr<Sampler>(const Dataset& dataset, std::int64_t seed, std::shared_ptr<Group> group)>;

struct TrainLoaderOptions {
  std::int64_t total_batch_size = 16;  ///< samples per step over all ranks; the number of ranks divides it, the data set holds it
  int num_workers = 1;                 ///< per rank; see DataLoaderOptions
  int prefetch = 4;
  bool shuffle = true;    ///< of the TrainingSampler
  MakeSampler sampler{};  ///< an infinite order; empty: TrainingSampler
  bool aspect_ratio_grouping =
      false;                     ///< a batch holds only wide or only tall images (GroupedBatchSampler), where sizes are known
  std::int64_t max_skipped = 0;  ///< samples over all ranks that may be left out; see DataLoaderOptions
  std::optional<c10::Device> device{};  ///< where batches are copied ahead of the step
  std::optional<std::int64_t> seed{};  ///< of order and randomness; absent: drawn at random, the same on all ranks (a collective)
  Transform transform{};
  Collate collate{};
  std::string name = "train";
};
void validate(const TrainLoaderOptions& options);

/// The endless loader of training: every rank `total_batch_size / ranks` samples a batch. Throws ConfigError when the options do
/// not fit the group or the data set.
std::unique_ptr<DataLoader> build_train_loader(std::shared_ptr<const Dataset> dataset, const TrainLoaderOptions& options,
                                               std::shared_ptr<Group> group);

/// How many iterations make `epochs` passes over a data set, the last one whole: epochs * dataset_size / total_batch_size,
/// rounded up. Throws ConfigError when one of them is not above 0, or there are more than 2^62.
std::int64_t iterations_of_epochs(double epochs, std::int64_t dataset_size, std::int64_t total_batch_size);
/// Which epoch the iteration lies in, as a number that grows by 1 with each pass.
double epoch_of_iteration(std::int64_t iteration, std::int64_t dataset_size, std::int64_t total_batch_size);

struct TestLoaderOptions {
  std::int64_t batch_size = 1;  ///< samples per batch of each rank
  int num_workers = 1;          ///< per rank; see DataLoaderOptions
  int prefetch = 4;
  std::optional<c10::Device> device{};  ///< where batches are copied ahead of the model
  std::int64_t max_skipped = 0;         ///< samples of this rank that may be left out; see DataLoaderOptions
  Transform transform{};
  Collate collate{};
  std::string name = "test";
};
void validate(const TestLoaderOptions& options);

/// The loader of evaluation: each rank goes once a pass through its part of the data set, in order, without leaving anything out.
std::unique_ptr<DataLoader> build_test_loader(std::shared_ptr<const Dataset> dataset, const TestLoaderOptions& options,
                                              std::shared_ptr<Group> group);

}  // namespace treadle

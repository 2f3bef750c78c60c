#pragma once

#include <treadle/comm/group.hpp>
#include <treadle/data/data_loader.hpp>

#include <memory>
#include <optional>
#include <string>

namespace treadle {

struct TrainLoaderOptions {
  std::int64_t total_batch_size = 16;  ///< samples per step over all ranks; the number of ranks divides it, the data set holds it
  int num_workers = 1;                 ///< per rank; see DataLoaderOptions
  int prefetch = 4;
  bool shuffle = true;
  std::optional<std::int64_t> seed{};  ///< of order and randomness; absent: drawn at random, the same on all ranks (a collective)
  Transform transform{};
  Collate collate{};
  std::string name = "train";
};
void validate(const TrainLoaderOptions& options);

/// The endless loader of training: TrainingSampler, every rank `total_batch_size / ranks` samples a batch.
/// Throws ConfigError when the options do not fit the group or the data set.
std::unique_ptr<DataLoader> build_train_loader(std::shared_ptr<const Dataset> dataset, const TrainLoaderOptions& options,
                                               std::shared_ptr<Group> group);

struct TestLoaderOptions {
  std::int64_t batch_size = 1;  ///< samples per batch of each rank
  int num_workers = 1;          ///< per rank; see DataLoaderOptions
  int prefetch = 4;
  Transform transform{};
  Collate collate{};
  std::string name = "test";
};
void validate(const TestLoaderOptions& options);

/// The loader of evaluation: each rank goes once a pass through its part of the data set, in order, without leaving anything out.
std::unique_ptr<DataLoader> build_test_loader(std::shared_ptr<const Dataset> dataset, const TestLoaderOptions& options,
                                              std::shared_ptr<Group> group);

}  // namespace treadle

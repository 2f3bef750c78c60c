#include <treadle/base/errors.hpp>
#include <treadle/data/build.hpp>
#include <treadle/data/training_samplers.hpp>

#include <fmt/format.h>

#include "data/group_view.hpp"

namespace treadle {

namespace {

void require(bool good, const char* key, const char* range, std::int64_t found) {
  if (!good) throw ConfigError(fmt::format("{} must be {}, found {}", key, range, found), key);
}

const Dataset& not_null(const std::shared_ptr<const Dataset>& dataset) {
  if (!dataset) throw ConfigError("a loader needs a data set", "dataset");
  return *dataset;
}

}  // namespace

void validate(const TrainLoaderOptions& options) {
  require(options.total_batch_size >= 1, "TrainLoaderOptions.total_batch_size", "at least 1", options.total_batch_size);
  require(options.num_workers >= 0 && options.num_workers <= 1024, "TrainLoaderOptions.num_workers", "in [0, 1024]",
          options.num_workers);
  require(options.prefetch >= 1, "TrainLoaderOptions.prefetch", "at least 1", options.prefetch);
}

std::unique_ptr<DataLoader> build_train_loader(std::shared_ptr<const Dataset> dataset, const TrainLoaderOptions& options,
                                               std::shared_ptr<Group> group) {
  validate(options);
  const std::int64_t size = not_null(dataset).size();
  const int ranks = world_size_of(group);
  if (options.total_batch_size % ranks != 0) {
    throw ConfigError(fmt::format("TrainLoaderOptions.total_batch_size must be a multiple of the number of ranks, {}, found {}",
                                  ranks, options.total_batch_size),
                      "TrainLoaderOptions.total_batch_size");
  }
  if (size > 0 && options.total_batch_size > size) {
    throw ConfigError(fmt::format("TrainLoaderOptions.total_batch_size is {}, but the data set \"{}\" has only {} samples",
                                  options.total_batch_size, options.name, size),
                      "TrainLoaderOptions.total_batch_size");
  }
  const auto seed = static_cast<std::int64_t>(seed_or_shared(options.seed, group));
  auto sampler = std::make_unique<TrainingSampler>(size, TrainingSamplerOptions{.shuffle = options.shuffle, .seed = seed}, group);
  return std::make_unique<DataLoader>(std::move(dataset), std::move(sampler),
                                      DataLoaderOptions{.batch_size = options.total_batch_size / ranks,
                                                        .num_workers = options.num_workers,
                                                        .prefetch = options.prefetch,
                                                        .seed = static_cast<std::uint64_t>(seed),
                                                        .transform = options.transform,
                                                        .collate = options.collate,
                                                        .name = options.name});
}

void validate(const TestLoaderOptions& options) {
  require(options.batch_size >= 1, "TestLoaderOptions.batch_size", "at least 1", options.batch_size);
  require(options.num_workers >= 0 && options.num_workers <= 1024, "TestLoaderOptions.num_workers", "in [0, 1024]",
          options.num_workers);
  require(options.prefetch >= 1, "TestLoaderOptions.prefetch", "at least 1", options.prefetch);
}

std::unique_ptr<DataLoader> build_test_loader(std::shared_ptr<const Dataset> dataset, const TestLoaderOptions& options,
                                              std::shared_ptr<Group> group) {
  validate(options);
  auto sampler = std::make_unique<InferenceSampler>(not_null(dataset).size(), std::move(group));
  return std::make_unique<DataLoader>(std::move(dataset), std::move(sampler),
                                      DataLoaderOptions{.batch_size = options.batch_size,
                                                        .num_workers = options.num_workers,
                                                        .prefetch = options.prefetch,
                                                        .transform = options.transform,
                                                        .collate = options.collate,
                                                        .name = options.name});
}

}  // namespace treadle

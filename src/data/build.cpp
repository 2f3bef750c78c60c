#include <treadle/base/errors.hpp>
#include <treadle/data/build.hpp>
#include <treadle/data/training_samplers.hpp>

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <functional>

#include "data/group_view.hpp"

namespace treadle {

namespace {

void require(bool good, const std::string& key, const char* range, std::int64_t found) {
  if (!good) throw ConfigError(fmt::format("{} must be {}, found {}", key, range, found), key);
}

/// What loaders for training and for tests have in common; `type` is the name of their options.
template <class Options>
void require_loader_options(const Options& options, const std::string& type) {
  require(options.num_workers >= auto_workers && options.num_workers <= 1024, type + ".num_workers",
          "in [0, 1024], or -1 for as many as help", options.num_workers);
  require(options.prefetch >= 1, type + ".prefetch", "at least 1", options.prefetch);
  require(options.max_skipped >= 0, type + ".max_skipped", "at least 0", options.max_skipped);
}

const Dataset& not_null(const std::shared_ptr<const Dataset>& dataset) {
  if (!dataset) throw ConfigError("a loader needs a data set", "dataset");
  return *dataset;
}

std::unique_ptr<Sampler> make_sampler(const Dataset& dataset, const TrainLoaderOptions& options, std::int64_t seed,
                                      std::shared_ptr<Group> group) {
  if (options.sampler) return options.sampler(dataset, seed, std::move(group));
  return std::make_unique<TrainingSampler>(dataset.size(), TrainingSamplerOptions{.shuffle = options.shuffle, .seed = seed},
                                           std::move(group));
}

/// Nothing when there is one group only, or grouping is not asked for.
std::optional<std::vector<std::int32_t>> groups_of(const Dataset& dataset, const TrainLoaderOptions& options) {
  if (!options.aspect_ratio_grouping) return std::nullopt;
  std::optional<std::vector<std::int32_t>> groups = aspect_ratio_groups(dataset);
  if (!groups || std::adjacent_find(groups->begin(), groups->end(), std::not_equal_to<>()) == groups->end()) return std::nullopt;
  return groups;
}

}  // namespace

void validate(const TrainLoaderOptions& options) {
  require(options.total_batch_size >= 1, "TrainLoaderOptions.total_batch_size", "at least 1", options.total_batch_size);
  require_loader_options(options, "TrainLoaderOptions");
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
    throw ConfigError(fmt::format("TrainLoaderOptions.total_batch_size must be at most {}, the samples of the data set \"{}\"",
                                  size, options.name),
                      "TrainLoaderOptions.total_batch_size");
  }
  const auto seed = static_cast<std::int64_t>(seed_or_shared(options.seed, group));
  DataLoaderOptions loader{.batch_size = options.total_batch_size / ranks,
                           .num_workers = options.num_workers,
                           .prefetch = options.prefetch,
                           .seed = static_cast<std::uint64_t>(seed),
                           .transform = options.transform,
                           .collate = options.collate,
                           .device = options.device,
                           .max_skipped = options.max_skipped,
                           .group = group,
                           .name = options.name};
  if (std::optional<std::vector<std::int32_t>> groups = groups_of(*dataset, options)) {
    auto sampler = std::make_unique<GroupedBatchSampler>(make_sampler(*dataset, options, seed, nullptr), std::move(*groups),
                                                         loader.batch_size, group);
    return std::make_unique<DataLoader>(std::move(dataset), std::move(sampler), std::move(loader));
  }
  auto sampler = make_sampler(*dataset, options, seed, group);
  return std::make_unique<DataLoader>(std::move(dataset), std::move(sampler), std::move(loader));
}

std::int64_t iterations_of_epochs(double epochs, std::int64_t dataset_size, std::int64_t total_batch_size) {
  const double iterations = std::ceil(epochs * static_cast<double>(dataset_size) / static_cast<double>(total_batch_size));
  constexpr double most = 0x1p62;
  if (!(epochs > 0) || dataset_size < 1 || total_batch_size < 1 || !(iterations <= most)) {
    throw ConfigError(fmt::format("{} epochs of {} samples in batches of {} make no number of iterations", epochs, dataset_size,
                                  total_batch_size),
                      "epochs");
  }
  return static_cast<std::int64_t>(iterations);
}

double epoch_of_iteration(std::int64_t iteration, std::int64_t dataset_size, std::int64_t total_batch_size) {
  return static_cast<double>(iteration) * static_cast<double>(total_batch_size) / static_cast<double>(dataset_size);
}

void validate(const TestLoaderOptions& options) {
  require(options.batch_size >= 1, "TestLoaderOptions.batch_size", "at least 1", options.batch_size);
  require_loader_options(options, "TestLoaderOptions");
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
                                                        .device = options.device,
                                                        .max_skipped = options.max_skipped,
                                                        .name = options.name});
}

}  // namespace treadle

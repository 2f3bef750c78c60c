// What the config says to the room `data`.
#include <defaults/validate_as.hpp>
#include <treadle/base/errors.hpp>
#include <treadle/data/training_samplers.hpp>
#include <treadle/defaults/options.hpp>

#include <fmt/format.h>

#include <algorithm>
#include <map>

namespace treadle {
namespace {

int num_workers(const Config& config) {
  const std::int64_t workers = config.get_int("DATALOADER.NUM_WORKERS");
  if (workers < auto_workers || workers > 1024)
    config.fail("DATALOADER.NUM_WORKERS", "expected 0 to 1024 threads, or -1 for as many as help");
  return static_cast<int>(workers);
}

std::int64_t batch_size(const Config& config) {
  const std::int64_t size = config.get_int("SOLVER.IMS_PER_BATCH");
  if (size < 1) config.fail("SOLVER.IMS_PER_BATCH", "at least 1 is needed");
  return size;
}

std::int64_t at_least(const Config& config, const char* key, std::int64_t least) {
  const std::int64_t number = config.get_int(key);
  if (number < least) config.fail(key, fmt::format("at least {} is needed", least));
  return number;
}

/// The class of each sample.
std::vector<std::int64_t> labels_of(const Dataset& dataset, const char* sampler) {
  std::vector<std::int64_t> labels;
  labels.reserve(static_cast<std::size_t>(dataset.size()));
  for (std::int64_t index = 0; index < dataset.size(); ++index) {
    const std::optional<std::int64_t> label = dataset.label(index);
    if (!label) {
      throw ConfigError(fmt::format("DATALOADER.SAMPLER_TRAIN {} needs a data set that knows the class of its samples", sampler),
                        "DATALOADER.SAMPLER_TRAIN");
    }
    labels.push_back(*label);
  }
  return labels;
}

MakeSampler repeat_factor_sampler(double threshold, bool square_root) {
  return [=](const Dataset& dataset, std::int64_t seed, std::shared_ptr<Group> group) {
    std::vector<std::vector<std::int64_t>> categories;
    for (const std::int64_t label : labels_of(dataset, "RepeatFactorTrainingSampler")) categories.push_back({label});
    return std::make_unique<RepeatFactorTrainingSampler>(
        repeat_factors_from_category_frequency(categories, threshold, square_root), TrainingSamplerOptions{.seed = seed},
        std::move(group));
  };
}

/// The same subset in every run: a run that is resumed must find it again.
constexpr std::int64_t kSubsetSeed = 0;

MakeSampler random_subset_sampler(double ratio) {
  return [=](const Dataset& dataset, std::int64_t seed, std::shared_ptr<Group> group) {
    return std::make_unique<RandomSubsetTrainingSampler>(
        dataset.size(), RandomSubsetOptions{.ratio = ratio, .seed = seed, .subset_seed = kSubsetSeed}, std::move(group));
  };
}

/// Every class equally often.
MakeSampler class_balanced_sampler() {
  return [](const Dataset& dataset, std::int64_t seed, std::shared_ptr<Group> group) {
    const std::vector<std::int64_t> labels = labels_of(dataset, "WeightedTrainingSampler");
    std::map<std::int64_t, double> counts;
    for (const std::int64_t label : labels) ++counts[label];
    std::vector<double> weights;
    for (const std::int64_t label : labels) weights.push_back(1 / counts[label]);
    return std::make_unique<WeightedTrainingSampler>(weights, WeightedSamplerOptions{.seed = seed}, std::move(group));
  };
}

/// Empty for the TrainingSampler.
MakeSampler train_sampler(const Config& config) {
  const double ratio = config.get_double("TREADLE.DATALOADER.RANDOM_SUBSET_RATIO");
  with_keys(config, {{"RandomSubsetOptions.ratio", "TREADLE.DATALOADER.RANDOM_SUBSET_RATIO"}},
            [&] { validate(RandomSubsetOptions{.ratio = ratio}); });
  const double threshold = config.get_double("DATALOADER.REPEAT_THRESHOLD");
  if (!(threshold >= 0)) config.fail("DATALOADER.REPEAT_THRESHOLD", "must not be negative");
  const bool square_root = config.get_bool("DATALOADER.REPEAT_SQRT");
  enum class Order { plain, repeat_factor, random_subset, weighted };
  switch (choice<Order>(config, "DATALOADER.SAMPLER_TRAIN",
                        {{"TrainingSampler", Order::plain},
                         {"RepeatFactorTrainingSampler", Order::repeat_factor},
                         {"RandomSubsetTrainingSampler", Order::random_subset},
                         {"WeightedTrainingSampler", Order::weighted}})) {
    case Order::repeat_factor:
      return repeat_factor_sampler(threshold, square_root);
    case Order::random_subset:
      return random_subset_sampler(ratio);
    case Order::weighted:
      return class_balanced_sampler();
    default:
      return nullptr;
  }
}

}  // namespace

TrainLoaderOptions train_loader_options(const Config& config) {
  TrainLoaderOptions options;
  options.total_batch_size = batch_size(config);
  options.num_workers = num_workers(config);
  options.prefetch = static_cast<int>(std::min<std::int64_t>(at_least(config, "TREADLE.DATALOADER.PREFETCH", 1), 1 << 20));
  options.sampler = train_sampler(config);
  options.aspect_ratio_grouping = config.get_bool("DATALOADER.ASPECT_RATIO_GROUPING");
  options.max_skipped = at_least(config, "TREADLE.DATALOADER.MAX_SKIPPED", 0);
  if (const std::int64_t seed = config.get_int("SEED"); seed >= 0) options.seed = seed;
  return options;
}

TestLoaderOptions test_loader_options(const Config& config) {
  TestLoaderOptions options;
  options.batch_size = batch_size(config);
  options.num_workers = num_workers(config);
  return options;
}

void apply_max_epochs(Config& config, const BatchSource& train_source) {
  constexpr const char* key = "TREADLE.SOLVER.MAX_EPOCHS";
  const double epochs = config.get_double(key);
  if (epochs == 0) return;
  const std::optional<std::int64_t> samples = train_source.samples_per_epoch();
  if (!samples) config.fail(key, fmt::format("\"{}\" does not know how many samples an epoch has", train_source.name()));
  const std::int64_t batch = batch_size(config) * config.get_int("TREADLE.SOLVER.BATCHES_PER_STEP");
  config.set("SOLVER.MAX_ITER",
             with_keys(config, {{"epochs", key}}, [&] { return iterations_of_epochs(epochs, *samples, batch); }));
}

}  // namespace treadle

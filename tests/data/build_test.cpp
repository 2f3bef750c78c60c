#include <treadle/base/errors.hpp>
#include <treadle/data/build.hpp>
#include <treadle/data/training_samplers.hpp>

#include <ATen/ops/arange.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <set>
#include <tuple>

#include "tests/data/fixed_group.hpp"

namespace treadle {
namespace {

std::shared_ptr<const Dataset> numbers(std::int64_t size) {
  return std::make_shared<TensorDataset>(Dict{{"x", at::arange(size)}});
}

std::string failing_key(const std::function<void()>& build) {
  try {
    build();
  } catch (const ConfigError& error) {
    return error.key();
  }
  return "none";
}

TEST(BuildTrainLoader, DealsTheTotalBatchToTheRanks) {
  const TrainLoaderOptions options{.total_batch_size = 6, .num_workers = 0, .seed = 4};
  auto whole = build_train_loader(numbers(20), options, nullptr);
  std::vector<std::unique_ptr<DataLoader>> parts;
  for (int rank = 0; rank < 3; ++rank) parts.push_back(build_train_loader(numbers(20), options, fixed_group(rank, 3)));
  for (int step = 0; step < 10; ++step) {
    const Batch all = whole->next().value();
    ASSERT_EQ(all.size(), 6);
    for (std::size_t rank = 0; rank < 3; ++rank) {
      const Batch part = parts[rank]->next().value();
      EXPECT_EQ(part.ids(), (std::vector<std::int64_t>{all.ids()[rank], all.ids()[rank + 3]}));
    }
  }
  EXPECT_EQ(whole->batches_per_pass(), std::nullopt);
}

TEST(BuildTrainLoader, PassesItsOptionsOn) {
  auto in_order = build_train_loader(numbers(8), {.total_batch_size = 8, .shuffle = false, .name = "mine"}, nullptr);
  EXPECT_EQ(in_order->name(), "mine");
  EXPECT_EQ(in_order->next()->ids(), (std::vector<std::int64_t>{0, 1, 2, 3, 4, 5, 6, 7}));
  auto ids = [](std::optional<std::int64_t> seed) {
    return build_train_loader(numbers(30), {.total_batch_size = 30, .seed = seed}, std::make_shared<FixedGroup>(0, 1, 5))
        ->next()
        ->ids();
  };
  EXPECT_EQ(ids(3), ids(3));
  EXPECT_NE(ids(3), ids(4));
  EXPECT_EQ(ids({}), ids(5)) << "without a seed the ranks agree on one";
  Transform draw = [](Sample sample, Rng& rng) {
    sample.set("drawn", rng.uniform());
    return sample;
  };
  auto drawn = [&](std::int64_t seed) {
    auto loader =
        build_train_loader(numbers(1), {.total_batch_size = 1, .num_workers = 0, .seed = seed, .transform = draw}, nullptr);
    return loader->next()->tensor("drawn").item<double>();
  };
  EXPECT_NE(drawn(1), drawn(2)) << "the seed is that of the samples' randomness too";
  auto joined = build_train_loader(
      numbers(2), {.total_batch_size = 2, .collate = [](std::vector<Sample>) { return Dict{{"mine", 1}}; }}, nullptr);
  EXPECT_TRUE(joined->next()->fields().contains("mine"));
}

TEST(BuildTrainLoader, RefusesWhatDoesNotFit) {
  const std::string key = "TrainLoaderOptions.total_batch_size";
  EXPECT_EQ(failing_key([] { build_train_loader(numbers(9), {.total_batch_size = 8}, fixed_group(0, 3)); }), key);
  EXPECT_EQ(failing_key([] { build_train_loader(numbers(9), {.total_batch_size = 10}, nullptr); }), key);
  EXPECT_EQ(failing_key([] { build_train_loader(numbers(9), {.total_batch_size = 0}, nullptr); }), key);
  EXPECT_EQ(failing_key([] { build_train_loader(numbers(0), {.total_batch_size = 1}, nullptr); }), "size");
  EXPECT_EQ(failing_key([] { build_train_loader(nullptr, {.total_batch_size = 1}, nullptr); }), "dataset");
  EXPECT_EQ(failing_key([] { validate(TrainLoaderOptions{.num_workers = -2}); }), "TrainLoaderOptions.num_workers");
  EXPECT_EQ(failing_key([] { validate(TrainLoaderOptions{.prefetch = 0}); }), "TrainLoaderOptions.prefetch");
}

TEST(BuildTestLoader, ShowsEverySampleOnce) {
  std::vector<std::int64_t> all;
  for (int rank = 0; rank < 3; ++rank) {
    auto loader = build_test_loader(numbers(11), {.batch_size = 2, .name = "mine"}, fixed_group(rank, 3));
    EXPECT_EQ(loader->name(), "mine");
    EXPECT_EQ(loader->batches_per_pass(), 2);
    int batches = 0;
    while (auto batch = loader->next()) {
      all.insert(all.end(), batch->ids().begin(), batch->ids().end());
      ++batches;
    }
    EXPECT_EQ(batches, 2);
  }
  for (std::size_t i = 0; i < 11; ++i) EXPECT_EQ(all.at(i), static_cast<std::int64_t>(i));
}

TEST(BuildTestLoader, ARankWithoutSamplesHasAnEmptyPass) {
  auto loader = build_test_loader(numbers(1), {}, fixed_group(1, 2));
  EXPECT_EQ(loader->batches_per_pass(), 0);
  EXPECT_FALSE(loader->next());
  EXPECT_FALSE(loader->next());
}

TEST(BuildTestLoader, PassesItsOptionsOn) {
  Transform mark = [](Sample, Rng&) { return Sample{{"mine", 1}}; };
  EXPECT_TRUE(build_test_loader(numbers(1), {.transform = mark}, nullptr)->next()->fields().contains("mine"));
  Collate join = [](std::vector<Sample>) { return Dict{{"mine", 1}}; };
  EXPECT_TRUE(build_test_loader(numbers(1), {.num_workers = 0, .collate = join}, nullptr)->next()->fields().contains("mine"));
  EXPECT_EQ(failing_key([] { validate(TestLoaderOptions{.batch_size = 0}); }), "TestLoaderOptions.batch_size");
  EXPECT_EQ(failing_key([] { validate(TestLoaderOptions{.num_workers = -2}); }), "TestLoaderOptions.num_workers");
  EXPECT_EQ(failing_key([] { validate(TestLoaderOptions{.prefetch = 0}); }), "TestLoaderOptions.prefetch");
}

TEST(BuildTrainLoader, TakesAnySampler) {
  TrainLoaderOptions options{.total_batch_size = 4, .num_workers = 0, .seed = 9};
  std::int64_t told_size = 0, told_seed = 0;
  options.sampler = [&](const Dataset& dataset, std::int64_t seed, std::shared_ptr<Group> group) {
    told_size = dataset.size();
    told_seed = seed;
    return std::make_unique<RandomSubsetTrainingSampler>(
        dataset.size(), RandomSubsetOptions{.ratio = 0.5, .seed = seed, .subset_seed = seed}, std::move(group));
  };
  auto loader = build_train_loader(numbers(8), options, nullptr);
  EXPECT_EQ(told_size, 8);
  EXPECT_EQ(told_seed, 9);
  std::set<std::int64_t> seen;
  for (int i = 0; i < 5; ++i) {
    const Batch batch = loader->next().value();
    seen.insert(batch.ids().begin(), batch.ids().end());
  }
  EXPECT_EQ(seen.size(), 4u) << "half of the data set";
}

/// Images of which every third is tall.
class Pictures final : public Dataset {
 public:
  explicit Pictures(bool all_wide = false) : all_wide_(all_wide) {}
  std::int64_t size() const override { return 30; }
  Sample get(std::int64_t index, Rng&) const override { return {{"x", index}}; }
  std::optional<ImageSize> image_size(std::int64_t index) const override {
    return index % 3 == 0 && !all_wide_ ? ImageSize{4, 3} : ImageSize{3, 4};
  }

 private:
  bool all_wide_;
};

TEST(BuildTrainLoader, GroupsByAspectRatio) {
  const TrainLoaderOptions plain{.total_batch_size = 6, .num_workers = 1, .seed = 4};
  TrainLoaderOptions grouped = plain;
  grouped.aspect_ratio_grouping = true;
  const auto mixed_batches = [](const TrainLoaderOptions& options) {
    auto loader = build_train_loader(std::make_shared<Pictures>(), options, fixed_group(1, 2));
    int mixed = 0;
    for (int i = 0; i < 40; ++i) {
      const Batch batch = loader->next().value();
      EXPECT_EQ(batch.size(), 3);
      const auto tall = std::count_if(batch.ids().begin(), batch.ids().end(), [](std::int64_t id) { return id % 3 == 0; });
      mixed += tall != 0 && tall != 3;
    }
    return mixed;
  };
  EXPECT_GT(mixed_batches(plain), 0);
  EXPECT_EQ(mixed_batches(grouped), 0);
  const auto first_ids = [](const std::shared_ptr<const Dataset>& dataset, const TrainLoaderOptions& options) {
    return build_train_loader(dataset, options, nullptr)->next()->ids();
  };
  EXPECT_EQ(first_ids(std::make_shared<Pictures>(true), grouped), first_ids(std::make_shared<Pictures>(true), plain))
      << "one group is none";
  EXPECT_EQ(first_ids(numbers(30), grouped), first_ids(numbers(30), plain)) << "no sizes, no groups";
}

TEST(BuildTrainLoader, PassesDeviceAndSkippingOn) {
  const TrainLoaderOptions options{
      .total_batch_size = 2, .num_workers = 1, .max_skipped = 3, .device = c10::Device(c10::kMeta), .seed = 1};
  const auto loader = build_train_loader(numbers(8), options, nullptr);
  EXPECT_TRUE(loader->next()->tensor("x").is_meta());
  EXPECT_EQ(loader->state_dict().at("skipped").as_int(), 0) << "skipping is on";
  const auto test = build_test_loader(numbers(8), {.device = c10::Device(c10::kMeta), .max_skipped = 3}, nullptr);
  EXPECT_TRUE(test->next()->tensor("x").is_meta());
  EXPECT_EQ(test->state_dict().at("skipped").as_int(), 0);
  EXPECT_EQ(failing_key([] { validate(TrainLoaderOptions{.max_skipped = -1}); }), "TrainLoaderOptions.max_skipped");
  EXPECT_EQ(failing_key([] { validate(TestLoaderOptions{.max_skipped = -1}); }), "TestLoaderOptions.max_skipped");
}

TEST(Epochs, AreIterations) {
  EXPECT_EQ(iterations_of_epochs(5, 60000, 128), 2344) << "5 * 468.75 = 2343.75";
  EXPECT_EQ(iterations_of_epochs(1, 100, 10), 10);
  EXPECT_EQ(iterations_of_epochs(0.001, 100, 10), 1);
  EXPECT_EQ(epoch_of_iteration(15, 100, 10), 1.5);
  for (const auto& [epochs, size, batch] : {std::tuple(0.0, 10, 1), std::tuple(-1.0, 10, 1), std::tuple(1.0, 0, 1),
                                            std::tuple(1.0, 10, 0), std::tuple(std::nan(""), 10, 1), std::tuple(1e30, 10, 1)}) {
    EXPECT_EQ(failing_key([&] { iterations_of_epochs(epochs, size, batch); }), "epochs");
  }
}

}  // namespace
}  // namespace treadle

#include <treadle/base/errors.hpp>
#include <treadle/data/data_loader.hpp>
#include <treadle/data/dataset_catalog.hpp>

#include <ATen/ops/arange.h>
#include <ATen/ops/equal.h>
#include <ATen/ops/tensor.h>
#include <ATen/ops/zeros.h>
#include <gtest/gtest.h>

namespace treadle {
namespace {

std::shared_ptr<TensorDataset> numbers() {
  return std::make_shared<TensorDataset>(
      Dict{{"x", at::arange(12).view({4, 3})}, {"label", at::tensor({9, 8, 7, 6}, at::kLong)}});
}

/// What `get_batch` promises: the same as `collate` of the samples one by one.
void expect_batch_of_samples(const Dataset& dataset, const std::vector<std::int64_t>& indices) {
  std::vector<Sample> samples;
  Rng rng;
  for (std::int64_t index : indices) samples.push_back(dataset.get(index, rng));
  EXPECT_TRUE(identical(dataset.get_batch(indices).value(), collate(samples)));
}

TEST(TensorDataset, GivesRows) {
  auto dataset = numbers();
  Rng rng;
  EXPECT_EQ(dataset->size(), 4);
  Sample sample = dataset->get(2, rng);
  EXPECT_TRUE(at::equal(sample.at("x").as_tensor(), at::tensor({6, 7, 8}, at::kLong)));
  EXPECT_EQ(sample.at("label").as_tensor().item<int>(), 7);
  expect_batch_of_samples(*dataset, {3, 0, 0});
}

TEST(TensorDataset, RefusesWhatHasNoRowPerSample) {
  EXPECT_THROW(TensorDataset({}), ConfigError);
  EXPECT_THROW(TensorDataset({{"x", at::zeros({})}}), ConfigError);
  EXPECT_THROW(TensorDataset({{"x", 3}}), ConfigError);
  EXPECT_THROW(TensorDataset({{"x", at::zeros({3})}, {"y", at::zeros({4})}}), ConfigError);
}

TEST(SubsetDataset, GivesTheSamplesItWasTold) {
  SubsetDataset subset(numbers(), {3, 1});
  Rng rng;
  EXPECT_EQ(subset.size(), 2);
  EXPECT_EQ(subset.get(0, rng).at("label").as_tensor().item<int>(), 6);
  expect_batch_of_samples(subset, {1, 0});
  EXPECT_THROW(SubsetDataset(numbers(), {4}), ConfigError);
  EXPECT_THROW(SubsetDataset(numbers(), {-1}), ConfigError);
  EXPECT_THROW(SubsetDataset(nullptr, {}), ConfigError);
}

TEST(ConcatDataset, PutsOneBehindTheOther) {
  const auto empty = std::make_shared<SubsetDataset>(numbers(), std::vector<std::int64_t>{});
  const auto two = std::make_shared<SubsetDataset>(numbers(), std::vector<std::int64_t>{3, 1});
  const ConcatDataset joined({two, empty, numbers()});
  ASSERT_EQ(joined.size(), 6);
  Rng rng;
  std::vector<std::int64_t> labels, told;
  for (std::int64_t i = 0; i < 6; ++i) {
    labels.push_back(joined.get(i, rng).at("label").as_tensor().item<std::int64_t>());
    told.push_back(joined.label(i).value());
  }
  EXPECT_EQ(labels, (std::vector<std::int64_t>{6, 8, 9, 8, 7, 6}));
  EXPECT_EQ(told, labels);
  for (std::int64_t index : {-1, 6}) EXPECT_THROW(joined.get(index, rng), Error);
  EXPECT_EQ(joined.image_size(0), std::nullopt);
  EXPECT_THROW(ConcatDataset({}), ConfigError);
  EXPECT_THROW(ConcatDataset({numbers(), nullptr}), ConfigError);
}

TEST(Dataset, TellsLabelsWithoutMakingSamples) {
  EXPECT_EQ(numbers()->label(2), 7);
  EXPECT_EQ(SubsetDataset(numbers(), {3}).label(0), 6);
  const MapDataset mapped(numbers(), [](Sample sample, Rng&) { return sample; });
  EXPECT_EQ(mapped.label(0), 9);
  EXPECT_EQ(TensorDataset({{"x", at::zeros({2})}}).label(0), std::nullopt);
  EXPECT_EQ(TensorDataset({{"label", at::zeros({2})}}).label(0), std::nullopt) << "not an integer";
}

TEST(MapDataset, TransformsEachSampleWithItsRng) {
  MapDataset mapped(numbers(), [](Sample sample, Rng& rng) {
    sample.set("drawn", static_cast<std::int64_t>(rng.next()));
    return sample;
  });
  Rng rng(1, 2), same(1, 2);
  EXPECT_EQ(mapped.size(), 4);
  EXPECT_EQ(mapped.get(1, rng).at("drawn").as_int(), static_cast<std::int64_t>(same.next()));
  EXPECT_FALSE(mapped.get_batch(std::vector<std::int64_t>{0})) << "the quick way would leave the transform out";
  EXPECT_THROW(MapDataset(nullptr, [](Sample sample, Rng&) { return sample; }), ConfigError);
  EXPECT_THROW(MapDataset(numbers(), {}), ConfigError);
}

TEST(Dataset, AnIndexOutOfRangeIsAnError) {
  Rng rng;
  SubsetDataset subset(numbers(), {3, 1});
  for (std::int64_t index : {-1, 4}) {
    EXPECT_THROW(numbers()->get(index, rng), Error);
    EXPECT_THROW(numbers()->get_batch(std::vector{index}), Error);
    EXPECT_THROW(subset.get(index, rng), Error);
    EXPECT_THROW(subset.get_batch(std::vector{index}), Error);
  }
}

TEST(DatasetCatalog, HoldsTheBuiltInSetsAndTheUsers) {
  for (const char* name : {"fashion_mnist_train", "fashion_mnist_test"}) {
    EXPECT_EQ(dataset_catalog().get(name).metadata.class_names.size(), 10u);
  }
  EXPECT_EQ(dataset_catalog().get("fashion_mnist_test").metadata.class_names.at(9), "Ankle boot");
  dataset_catalog().add("four_numbers", {.make = [](const DatasetOptions&) -> std::unique_ptr<Dataset> {
                                           return std::make_unique<TensorDataset>(Dict{{"x", at::zeros({4})}});
                                         },
                                         .metadata = {}});
  EXPECT_EQ(make_dataset("four_numbers")->size(), 4);
  EXPECT_THROW(make_dataset("fashion_mnist_trian"), ConfigError);
}

}  // namespace
}  // namespace treadle

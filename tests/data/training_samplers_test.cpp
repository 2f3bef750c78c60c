#include <treadle/base/errors.hpp>
#include <treadle/data/training_samplers.hpp>

#include <ATen/ops/zeros.h>
#include <gtest/gtest.h>

#include <rapidcheck/gtest.h>
#include <cmath>

#include <algorithm>
#include <cmath>
#include <numeric>

#include "tests/data/fixed_group.hpp"

namespace treadle {
namespace {

using Indices = std::vector<std::int64_t>;

Indices draw(Sampler& sampler, int count) {
  Indices indices;
  for (int i = 0; i < count; ++i) indices.push_back(sampler.next().value());
  return indices;
}

/// One of the three samplers over data sets whose epochs are as short as one sample.
std::unique_ptr<Sampler> make_sampler(int which, std::int64_t size, std::shared_ptr<Group> group) {
  if (which == 0) return std::make_unique<TrainingSampler>(size, TrainingSamplerOptions{.seed = 5}, group);
  if (which == 1) {
    return std::make_unique<RandomSubsetTrainingSampler>(size, RandomSubsetOptions{.ratio = 1, .seed = 5, .subset_seed = 6},
                                                         group);
  }
  std::vector<float> factors;
  for (std::int64_t i = 0; i < size; ++i) factors.push_back(0.4f + 0.3f * static_cast<float>(i));
  return std::make_unique<RepeatFactorTrainingSampler>(factors, TrainingSamplerOptions{.seed = 5}, group);
}

// The order of samples is one stream whatever the number of ranks, also when that number changes on the way and a state is
// loaded.
RC_GTEST_PROP(EpochSampler, TheCommonOrderGoesOnThroughChangesOfTheWorld, ()) {
  const int which = *rc::gen::inRange(0, 3);
  const std::int64_t size = *rc::gen::inRange<std::int64_t>(1, 12);
  Dict state = make_sampler(which, size, nullptr)->state_dict();
  Indices found;
  for (int world : *rc::gen::container<std::vector<int>>(rc::gen::inRange(1, 9))) {
    const int draws = *rc::gen::inRange(0, 6);
    std::vector<Indices> of_rank;
    std::vector<Dict> states;
    for (int rank = 0; rank < world; ++rank) {
      auto sampler = make_sampler(which, size, fixed_group(rank, world));
      sampler->load_state_dict(state);
      of_rank.push_back(draw(*sampler, draws));
      states.push_back(sampler->state_dict());
    }
    for (int i = 0; i < draws; ++i) {
      for (const Indices& part : of_rank) found.push_back(part[static_cast<std::size_t>(i)]);
    }
    for (const Dict& other : states) RC_ASSERT(identical(other, states.front()));
    state = states.front();
  }
  auto alone = make_sampler(which, size, nullptr);
  RC_ASSERT(found == draw(*alone, static_cast<int>(found.size())));
}

TEST(EpochSampler, TheWorldMayChangeUnderARunningSampler) {
  auto group = std::make_shared<FixedGroup>(1, 2);
  TrainingSampler sampler(10, {.shuffle = false}, group);
  EXPECT_EQ(draw(sampler, 2), (Indices{1, 3}));
  group->rank = 0, group->world_size = 1;
  EXPECT_EQ(draw(sampler, 3), (Indices{4, 5, 6}));
}

TEST(EpochSampler, PositionCountsOverAllRanksAndEpochs) {
  TrainingSampler sampler(3, {.seed = 0}, fixed_group(1, 2));
  Indices positions;
  for (int i = 0; i < 4; ++i) {
    positions.push_back(sampler.position());
    sampler.next();
  }
  EXPECT_EQ(positions, (Indices{1, 3, 5, 7}));
}

TEST(EpochSampler, AStateDoesNotChangeWhenTheSamplerGoesOn) {
  TrainingSampler sampler(4, {.seed = 1}, nullptr);
  draw(sampler, 6);
  const Dict state = sampler.state_dict();
  const Dict copy = deep_clone(state);
  const Indices following = draw(sampler, 20);
  EXPECT_TRUE(identical(state, copy));
  TrainingSampler other(4, {.seed = 99}, nullptr);
  other.load_state_dict(state);
  EXPECT_EQ(draw(other, 20), following);
  EXPECT_TRUE(identical(state, copy)) << "the loaded state is not written to";
}

// Far into a run the generator still has the state of the epoch's start, so going on takes one epoch's draw and no more.
TEST(EpochSampler, AFarPlaceIsReachedWithoutReplay) {
  TrainingSampler sampler(4, {.seed = 1}, nullptr);
  Dict state = sampler.state_dict();
  const std::int64_t far = std::int64_t{1} << 60;
  state.set("epoch_start", far);
  state.set("position", far + 2);
  Indices first = draw(sampler, 4);
  sampler.load_state_dict(state);
  EXPECT_EQ(sampler.position(), far + 2);
  EXPECT_EQ(draw(sampler, 2), Indices(first.begin() + 2, first.end()));
}

TEST(EpochSampler, RefusesStatesThatDoNotFit) {
  TrainingSampler sampler(4, {.seed = 1}, nullptr);
  draw(sampler, 5);
  const Dict good = sampler.state_dict();
  const Indices following = [&] {
    TrainingSampler copy(4, {}, nullptr);
    copy.load_state_dict(good);
    return draw(copy, 8);
  }();
  const std::vector<std::pair<Key, Value>> changes = {{"kind", "RepeatFactorTrainingSampler"},
                                                      {"size", 5},
                                                      {"position", 3},
                                                      {"position", 8},
                                                      {"position", std::int64_t{1} << 62},
                                                      {"position", "five"},
                                                      {"epoch_start", -1},
                                                      {"generator", at::zeros({5056}, at::kByte)},
                                                      {"generator", at::zeros({7}, at::kByte)},
                                                      {"generator", at::zeros({5056}, at::kFloat)},
                                                      {"generator", nullptr}};
  for (const auto& [key, value] : changes) {
    Dict bad = good;
    bad.set(key, value);
    EXPECT_THROW(sampler.check_state_dict(bad), FormatError) << key.to_string() << " " << describe(value);
    EXPECT_THROW(sampler.load_state_dict(bad), FormatError);
    Dict missing = good;
    missing.erase(key);
    EXPECT_THROW(sampler.check_state_dict(missing), FormatError);
  }
  EXPECT_EQ(draw(sampler, 8), following) << "a refused load changes nothing";
}

TEST(EpochSampler, WithoutASeedAllRanksShareOne) {
  TrainingSampler one(50, {}, std::make_shared<FixedGroup>(0, 1, 77)), other(50, {.seed = 77}, nullptr);
  EXPECT_EQ(draw(one, 50), draw(other, 50));
  TrainingSampler lonely(1000, {}, nullptr), another(1000, {}, nullptr);
  EXPECT_NE(draw(lonely, 1000), draw(another, 1000));
}

TEST(TrainingSampler, EveryEpochHasEveryIndexOnce) {
  TrainingSampler sampler(37, {.seed = 3}, nullptr);
  Indices previous;
  for (int epoch = 0; epoch < 3; ++epoch) {
    Indices indices = draw(sampler, 37);
    EXPECT_NE(indices, previous);
    previous = indices;
    std::sort(indices.begin(), indices.end());
    Indices all(37);
    std::iota(all.begin(), all.end(), 0);
    EXPECT_EQ(indices, all);
  }
  EXPECT_EQ(sampler.indices_per_pass(), std::nullopt);
}

TEST(RandomSubsetTrainingSampler, ValidatesTheRatio) {
  for (double ratio : {0.0, -0.5, 1.01, std::nan("")}) EXPECT_THROW(validate(RandomSubsetOptions{.ratio = ratio}), ConfigError);
  EXPECT_THROW(RandomSubsetTrainingSampler(10, {.ratio = 0.05}, nullptr), ConfigError);
  EXPECT_THROW(RandomSubsetTrainingSampler(0, {}, nullptr), ConfigError);
}

TEST(RepeatFactorTrainingSampler, RefusesFactorsThatDrawNothing) {
  EXPECT_THROW(RepeatFactorTrainingSampler({0, 0}, {.seed = 0}, nullptr), ConfigError);
  EXPECT_THROW(RepeatFactorTrainingSampler({}, {.seed = 0}, nullptr), ConfigError);
  EXPECT_THROW(RepeatFactorTrainingSampler({1, -1}, {.seed = 0}, nullptr), ConfigError);
  EXPECT_THROW(RepeatFactorTrainingSampler({1, INFINITY}, {.seed = 0}, nullptr), ConfigError);
}

TEST(RepeatFactorTrainingSampler, PassesOverEmptyEpochs) {
  RepeatFactorTrainingSampler sampler({0.01f}, {.seed = 0}, nullptr);
  EXPECT_EQ(draw(sampler, 3), (Indices{0, 0, 0}));
}

TEST(RepeatFactors, RareCategoriesRepeat) {
  const std::vector<Indices> images = {{0}, {0}, {0}, {0, 1}};
  EXPECT_EQ(repeat_factors_from_category_frequency(images, 1.0), (std::vector<float>{1, 1, 1, 2}));
  EXPECT_EQ(repeat_factors_from_category_frequency(images, 1.0, false), (std::vector<float>{1, 1, 1, 4}));
  for (const bool square_root : {true, false}) {
    for (const double threshold : {-1.0, -1e-9, std::nan("")})
      EXPECT_THROW(repeat_factors_from_category_frequency(images, threshold, square_root), ConfigError) << threshold;
  }
}

// Computed by torch.utils.data.WeightedRandomSampler of PyTorch 2.13.0 with one generator of seed 11, three epochs each.
TEST(WeightedTrainingSampler, EqualsPython) {
  const std::vector<double> weights{0.1, 2.0, 0.0, 0.7, 1.3, 0.4};
  const auto draw = [&](WeightedSamplerOptions options, int count) {
    options.seed = 11;
    WeightedTrainingSampler sampler(weights, options, nullptr);
    std::vector<std::int64_t> indices;
    for (int i = 0; i < count; ++i) indices.push_back(*sampler.next());
    return indices;
  };
  EXPECT_EQ(draw({.samples_per_epoch = 8}, 24),
            (std::vector<std::int64_t>{1, 4, 4, 4, 3, 1, 1, 1, 4, 1, 5, 4, 4, 1, 1, 0, 5, 1, 5, 1, 1, 4, 4, 4}));
  EXPECT_EQ(draw({.samples_per_epoch = 4, .replacement = false}, 12),
            (std::vector<std::int64_t>{5, 4, 1, 3, 1, 3, 0, 4, 3, 5, 1, 4}));
  EXPECT_EQ(draw({}, 6), (draw({.samples_per_epoch = 6}, 6)));
}

TEST(WeightedTrainingSampler, RefusesWeightsThatDrawNothing) {
  const auto make = [](const std::vector<double>& weights, WeightedSamplerOptions options = {}) {
    WeightedTrainingSampler sampler(weights, options, nullptr);
  };
  EXPECT_THROW(make({}), ConfigError);
  EXPECT_THROW(make({0, 0}), ConfigError);
  EXPECT_THROW(make({1, -1}), ConfigError);
  EXPECT_THROW(make({1, std::nan("")}), ConfigError);
  EXPECT_THROW(make({1, 0}, {.samples_per_epoch = 2, .replacement = false}), ConfigError);
  EXPECT_THROW(make({1, 0}, {.replacement = false}), ConfigError);
  EXPECT_THROW(make({1}, {.samples_per_epoch = -1}), ConfigError);
}

TEST(EpochSampler, KnowsTheSamplesOfItsEpoch) {
  EXPECT_EQ(RandomSubsetTrainingSampler(50, {.ratio = 0.1}, nullptr).samples_per_epoch(), 5);
  EXPECT_EQ(WeightedTrainingSampler({1, 2, 3}, {.samples_per_epoch = 7}, nullptr).samples_per_epoch(), 7);
  EXPECT_EQ(WeightedTrainingSampler({1, 2, 3}, {}, nullptr).samples_per_epoch(), 3);
  EXPECT_EQ(TrainingSampler(50, {}, nullptr).samples_per_epoch(), std::nullopt) << "the data set's";
  EXPECT_EQ(RepeatFactorTrainingSampler({1, 1.5}, {}, nullptr).samples_per_epoch(), std::nullopt) << "no fixed number";
}

}  // namespace
}  // namespace treadle

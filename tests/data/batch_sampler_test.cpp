#include <treadle/base/errors.hpp>
#include <treadle/data/batch_sampler.hpp>
#include <treadle/data/training_samplers.hpp>

#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include <map>
#include <set>

#include "tests/data/fixed_group.hpp"

namespace treadle {
namespace {

using Ids = std::vector<std::int64_t>;

std::unique_ptr<Sampler> in_order(std::int64_t size) {
  return std::make_unique<TrainingSampler>(size, TrainingSamplerOptions{.shuffle = false, .seed = 0}, nullptr);
}
std::unique_ptr<Sampler> shuffled(std::int64_t size) {
  return std::make_unique<TrainingSampler>(size, TrainingSamplerOptions{.seed = 5}, nullptr);
}

Ids ids_of(const std::vector<SamplePlace>& places) {
  Ids ids;
  for (const SamplePlace& place : places) ids.push_back(place.index);
  return ids;
}

/// One rank after the other in one process.
struct World {
  World(int size, std::int64_t samples, const std::vector<std::int32_t>& group_of, std::int64_t total_batch) {
    for (int rank = 0; rank < size; ++rank) {
      ranks.push_back(
          std::make_unique<GroupedBatchSampler>(shuffled(samples), group_of, total_batch / size, fixed_group(rank, size)));
    }
  }
  std::vector<std::vector<SamplePlace>> step() {
    std::vector<std::vector<SamplePlace>> batches;
    for (auto& rank : ranks) batches.push_back(rank->next().value());
    return batches;
  }
  std::vector<std::unique_ptr<GroupedBatchSampler>> ranks;
};

// Detectron2's rule, written down once more in the plainest way: one bucket per group, and a batch when one is full.
TEST(GroupedBatchSampler, EachRankFollowsTheRule) {
  constexpr std::int64_t samples = 37;
  std::vector<std::int32_t> group_of;
  for (std::int64_t i = 0; i < samples; ++i) group_of.push_back(static_cast<std::int32_t>(i * i % 3));
  for (const int size : {1, 2, 3}) {
    World world(size, samples, group_of, 4 * size);
    const auto order = shuffled(samples);
    std::vector<std::map<std::int32_t, Ids>> buckets(static_cast<std::size_t>(size));
    std::vector<std::vector<Ids>> expected(static_cast<std::size_t>(size));
    for (std::size_t i = 0; i < 3000; ++i) {
      const std::int64_t index = order->next().value();
      const std::size_t rank = i % static_cast<std::size_t>(size);
      Ids& bucket = buckets[rank][group_of[static_cast<std::size_t>(index)]];
      bucket.push_back(index);
      if (bucket.size() == 4) expected[rank].push_back(std::exchange(bucket, {}));
    }
    for (std::size_t step = 0; step < 100; ++step) {
      const auto batches = world.step();
      for (std::size_t rank = 0; rank < batches.size(); ++rank) EXPECT_EQ(ids_of(batches[rank]), expected[rank].at(step));
    }
    for (const auto& rank : world.ranks) EXPECT_TRUE(identical(rank->state_dict(), world.ranks.front()->state_dict()));
  }
}

// Worlds of any size one behind the other, and whatever a world leaves waiting: every sample of every epoch comes once.
RC_GTEST_PROP(GroupedBatchSampler, NoSampleIsLostOrRepeatedWhenTheWorldChanges, ()) {
  const std::int64_t samples = *rc::gen::inRange(5, 40);
  const auto groups = *rc::gen::inRange<std::int32_t>(1, 4);
  std::vector<std::int32_t> group_of;
  for (std::int64_t i = 0; i < samples; ++i) group_of.push_back(static_cast<std::int32_t>(i * 7 % 5) % groups);
  const auto worlds = *rc::gen::container<std::vector<int>>(4, rc::gen::element(1, 2, 4));
  std::map<std::int64_t, std::int64_t> index_at;  // position → index
  std::optional<Dict> state;
  for (const int size : worlds) {
    World world(size, samples, group_of, 8);
    for (auto& rank : world.ranks) {
      if (state) rank->load_state_dict(*state);
    }
    const int steps = *rc::gen::inRange(0, 12);
    for (int step = 0; step < steps; ++step) {
      for (const auto& batch : world.step()) {
        RC_ASSERT(batch.size() == static_cast<std::size_t>(8 / size));
        for (const SamplePlace& place : batch) {
          RC_ASSERT(group_of[static_cast<std::size_t>(place.index)] == group_of[static_cast<std::size_t>(batch[0].index)]);
          RC_ASSERT(index_at.emplace(place.position, place.index).second);
        }
      }
    }
    state = deep_clone(world.ranks.front()->state_dict());
    for (auto& rank : world.ranks) RC_ASSERT(identical(rank->state_dict(), *state));
  }
  // What has not come yet waits in the state; together they are the order without a gap.
  const at::Tensor waiting = state->at("samples").as_tensor();
  for (std::int64_t i = 0; i < waiting.size(0); ++i)
    RC_ASSERT(index_at.emplace(waiting[i][1].item<std::int64_t>(), waiting[i][0].item<std::int64_t>()).second);
  const auto order = shuffled(samples);
  std::int64_t position = 0;
  for (const auto& [found, index] : index_at) {
    RC_ASSERT(found == position++);
    RC_ASSERT(index == order->next().value());
  }
}

TEST(GroupedBatchSampler, WaitingSamplesArePooledInRankOrderAndDealt) {
  // Groups of 0, 1, 2, …: 0 1 0 1 …, so that rank 0 of two gets group 0 alone, rank 1 group 1.
  const auto make = [](int rank, int size, std::int64_t batch) {
    return std::make_unique<GroupedBatchSampler>(
        in_order(100),
        [] {
          std::vector<std::int32_t> group_of;
          for (int i = 0; i < 100; ++i) group_of.push_back(i % 2);
          return group_of;
        }(),
        batch, fixed_group(rank, size));
  };
  auto two = make(0, 2, 3);
  EXPECT_EQ(ids_of(*two->next()), (Ids{0, 2, 4}));
  auto alone = make(0, 1, 6);
  EXPECT_EQ(ids_of(*alone->next()), (Ids{0, 2, 4, 6, 8, 10})) << "1 3 5 7 9 wait";
  auto first = make(0, 2, 3), second = make(1, 2, 3);
  first->load_state_dict(alone->state_dict());
  second->load_state_dict(alone->state_dict());
  // 1 3 5 7 9 are dealt in turn: 1 5 9 to rank 0; 3 7 to rank 1, whose next sample is the second of 11 12.
  EXPECT_EQ(ids_of(*first->next()), (Ids{1, 5, 9}));
  EXPECT_EQ(ids_of(*second->next()), (Ids{12, 14, 16}));
}

TEST(GroupedBatchSampler, ThePoolIsInRankOrder) {
  std::vector<std::int32_t> group_of;  // 0 0 1 1 0 0 1 1 …: both ranks get both groups
  for (int i = 0; i < 100; ++i) group_of.push_back(i / 2 % 2);
  GroupedBatchSampler first(in_order(100), group_of, 3, fixed_group(0, 2)), second(in_order(100), group_of, 3, fixed_group(1, 2));
  EXPECT_EQ(ids_of(*first.next()), (Ids{0, 4, 8})) << "2 and 6 wait";
  EXPECT_EQ(ids_of(*second.next()), (Ids{1, 5, 9})) << "3 and 7 wait";
  GroupedBatchSampler alone(in_order(100), group_of, 6, nullptr);
  alone.load_state_dict(second.state_dict());
  EXPECT_EQ(ids_of(*alone.next()), (Ids{2, 6, 3, 7, 10, 11}));
}

TEST(GroupedBatchSampler, ResumesFromItsState) {
  std::vector<std::int32_t> group_of(50);
  for (std::size_t i = 0; i < 50; ++i) group_of[i] = static_cast<std::int32_t>(i % 3);
  const auto make = [&] { return GroupedBatchSampler(shuffled(50), group_of, 4, nullptr); };
  GroupedBatchSampler one = make(), other = make();
  for (int i = 0; i < 9; ++i) one.next();
  const Dict state = deep_clone(one.state_dict());
  other.next();
  other.load_state_dict(state);
  EXPECT_TRUE(identical(other.state_dict(), state));
  for (int i = 0; i < 30; ++i) EXPECT_EQ(one.next(), other.next());
  one.rewind();
  GroupedBatchSampler fresh = make();
  EXPECT_EQ(one.next(), fresh.next());
  EXPECT_EQ(one.batches_per_pass(), std::nullopt);
}

TEST(GroupedBatchSampler, AFinitePassDropsWhatWaits) {
  GroupedBatchSampler sampler(std::make_unique<SequentialSampler>(7), {0, 0, 1, 0, 1, 1, 0}, 2, nullptr);
  for (int pass = 0; pass < 2; ++pass) {
    EXPECT_EQ(ids_of(*sampler.next()), (Ids{0, 1}));
    EXPECT_EQ(ids_of(*sampler.next()), (Ids{2, 4}));
    EXPECT_EQ(ids_of(*sampler.next()), (Ids{3, 6}));
    EXPECT_EQ(sampler.next(), std::nullopt);
  }
}

TEST(GroupedBatchSampler, RefusesWhatDoesNotFit) {
  const auto make = [](std::int64_t size) {
    return GroupedBatchSampler(shuffled(size), std::vector<std::int32_t>(static_cast<std::size_t>(size)), 4, nullptr);
  };
  GroupedBatchSampler sampler = make(20), larger = make(21);
  sampler.next();
  const Dict good = sampler.state_dict();
  EXPECT_THROW(larger.check_state_dict(good), FormatError);
  for (const char* key : {"kind", "sampler", "samples", "counts"}) {
    for (const Value& wrong : {Value("text"), Value(at::Tensor(good.at("counts").as_tensor().add(1)))}) {
      Dict bad = good;
      bad.set(key, wrong);
      EXPECT_THROW(sampler.check_state_dict(bad), FormatError) << key;
    }
  }
  Dict outside = good;
  outside.set("samples", good.at("counts").as_tensor().mul(0).add(20));
  EXPECT_THROW(sampler.check_state_dict(outside), FormatError);
  EXPECT_NO_THROW(sampler.load_state_dict(good));
  EXPECT_THROW(GroupedBatchSampler(nullptr, {0}, 1, nullptr), ConfigError);
  EXPECT_THROW(GroupedBatchSampler(shuffled(1), {}, 1, nullptr), ConfigError);
  EXPECT_THROW(GroupedBatchSampler(shuffled(1), {0}, 0, nullptr), ConfigError);
  EXPECT_THROW(FixedBatchSampler(nullptr, 1), ConfigError);
  EXPECT_THROW(FixedBatchSampler(shuffled(1), 0), ConfigError);
}

TEST(GroupedBatchSampler, ASampleWithoutAGroupIsAnError) {
  GroupedBatchSampler sampler(std::make_unique<SequentialSampler>(6), {0, 1, 0, 1}, 2, nullptr);
  EXPECT_EQ(ids_of(*sampler.next()), (Ids{0, 2}));
  EXPECT_EQ(ids_of(*sampler.next()), (Ids{1, 3}));
  try {
    sampler.next();
    FAIL();
  } catch (const ConfigError& error) {
    EXPECT_EQ(error.key(), "group_of");
    EXPECT_STREQ(error.what(), "the sampler drew sample 4, and group_of has the groups of 4 samples");
  }
}

TEST(FixedBatchSampler, HoldsTheEndOfAPassInItsState) {
  const auto make = [](bool drop_last = false) {
    return FixedBatchSampler(std::make_unique<SequentialSampler>(5), 2, drop_last);
  };
  FixedBatchSampler sampler = make();
  EXPECT_EQ(sampler.next(), (std::vector<SamplePlace>{{0, 0}, {1, 1}}));
  sampler.next();
  EXPECT_EQ(sampler.next(), (std::vector<SamplePlace>{{4, 4}}));
  FixedBatchSampler resumed = make();
  resumed.load_state_dict(sampler.state_dict());
  EXPECT_EQ(resumed.next(), std::nullopt) << "the end of the pass comes behind its last batch";
  EXPECT_EQ(resumed.next(), (std::vector<SamplePlace>{{0, 5}, {1, 6}}));
  resumed.rewind();
  EXPECT_EQ(resumed.next(), (std::vector<SamplePlace>{{0, 10}, {1, 11}}));
  EXPECT_EQ(sampler.batches_per_pass(), 3);
  EXPECT_EQ(make(true).batches_per_pass(), 2);
}

}  // namespace
}  // namespace treadle

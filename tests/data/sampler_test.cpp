#include <treadle/base/errors.hpp>
#include <treadle/data/sampler.hpp>

#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include "tests/data/fixed_group.hpp"

namespace treadle {
namespace {

std::vector<std::int64_t> rest_of_pass(Sampler& sampler) {
  std::vector<std::int64_t> indices;
  while (auto index = sampler.next()) indices.push_back(*index);
  return indices;
}

using Indices = std::vector<std::int64_t>;

TEST(SequentialSampler, GoesThroughAllPassAfterPass) {
  SequentialSampler sampler(3);
  EXPECT_EQ(sampler.indices_per_pass(), 3);
  EXPECT_EQ(rest_of_pass(sampler), (Indices{0, 1, 2}));
  EXPECT_EQ(rest_of_pass(sampler), (Indices{0, 1, 2}));
}

TEST(SequentialSampler, PositionsNeverRepeat) {
  SequentialSampler sampler(2);
  Indices positions;
  for (int i = 0; i < 6; ++i) {
    std::int64_t position = sampler.position();
    if (sampler.next()) positions.push_back(position);
  }
  EXPECT_EQ(positions, (Indices{0, 1, 2, 3}));
}

TEST(SequentialSampler, RewindLeavesThePass) {
  SequentialSampler sampler(3);
  sampler.rewind();
  EXPECT_EQ(sampler.position(), 0) << "an untouched pass is not left";
  sampler.next();
  sampler.rewind();
  EXPECT_EQ(sampler.position(), 3);
  EXPECT_EQ(rest_of_pass(sampler), (Indices{0, 1, 2}));
}

TEST(SequentialSampler, ResumesAnywhereAlsoBeforeTheEnd) {
  for (int drawn = 0; drawn <= 5; ++drawn) {
    SequentialSampler one(2), other(2);
    for (int i = 0; i < drawn; ++i) one.next();
    other.load_state_dict(one.state_dict());
    for (int i = 0; i < 7; ++i) {
      EXPECT_EQ(one.position(), other.position());
      EXPECT_EQ(one.next(), other.next());
    }
  }
}

TEST(SequentialSampler, RefusesStatesThatDoNotFit) {
  SequentialSampler sampler(3);
  EXPECT_THROW(sampler.check_state_dict({{"size", 4}, {"pass", 0}, {"place", 0}}), FormatError);
  EXPECT_THROW(sampler.check_state_dict({{"size", 3}, {"pass", 0}, {"place", 4}}), FormatError);
  EXPECT_THROW(sampler.check_state_dict({{"size", 3}, {"pass", -1}, {"place", 0}}), FormatError);
  EXPECT_THROW(sampler.check_state_dict({{"size", 3}, {"pass", 0}}), FormatError);
  EXPECT_NO_THROW(sampler.check_state_dict({{"size", 3}, {"pass", 0}, {"place", 3}}));
  EXPECT_THROW(SequentialSampler(0), ConfigError);
}

RC_GTEST_PROP(InferenceSampler, PartsOfAllRanksAreTheWholeInOrder, ()) {
  const std::int64_t size = *rc::gen::inRange<std::int64_t>(1, 200);
  const int world = *rc::gen::inRange(1, 20);
  Indices all;
  std::size_t least = 1000, most = 0;
  for (int rank = 0; rank < world; ++rank) {
    InferenceSampler sampler(size, fixed_group(rank, world));
    const Indices part = rest_of_pass(sampler);
    RC_ASSERT(rest_of_pass(sampler) == part);
    RC_ASSERT(sampler.indices_per_pass() == static_cast<std::int64_t>(part.size()));
    all.insert(all.end(), part.begin(), part.end());
    least = std::min(least, part.size());
    most = std::max(most, part.size());
  }
  RC_ASSERT(most - least <= 1u);
  RC_ASSERT(all.size() == static_cast<std::size_t>(size));
  for (std::size_t i = 0; i < all.size(); ++i) RC_ASSERT(all[i] == static_cast<std::int64_t>(i));
}

TEST(InferenceSampler, ResumesInTheMiddle) {
  InferenceSampler one(10, fixed_group(1, 3)), other(10, fixed_group(1, 3));
  one.next();
  other.load_state_dict(one.state_dict());
  EXPECT_EQ(other.position(), 5);
  EXPECT_EQ(rest_of_pass(other), (Indices{5, 6}));
  other.next();
  other.rewind();
  EXPECT_EQ(other.next(), 4);
}

TEST(InferenceSampler, RefusesStatesThatDoNotFit) {
  InferenceSampler sampler(10, fixed_group(1, 3));
  EXPECT_THROW(sampler.check_state_dict({{"size", 10}, {"world_size", 2}, {"place", 0}}), FormatError);
  EXPECT_THROW(sampler.check_state_dict({{"size", 9}, {"world_size", 3}, {"place", 0}}), FormatError);
  EXPECT_THROW(sampler.check_state_dict({{"size", 10}, {"world_size", 3}, {"place", 4}}), FormatError);
  EXPECT_NO_THROW(sampler.check_state_dict({{"size", 10}, {"world_size", 3}, {"place", 3}}));
  EXPECT_THROW(InferenceSampler(0, nullptr), ConfigError);
}

}  // namespace
}  // namespace treadle

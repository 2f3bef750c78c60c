#include <treadle/base/device.hpp>
#include <treadle/base/errors.hpp>
#include <treadle/base/rng.hpp>

#include <ATen/ops/rand.h>
#include <ATen/ops/randperm.h>
#include <ATen/ops/zeros.h>
#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include <cmath>
#include <map>

namespace treadle {
namespace {

using Words = std::array<std::uint32_t, 4>;

// The known answers published with Random123 (kat_vectors, philox4x32 10).
TEST(Rng, PhiloxGivesThePublishedAnswers) {
  EXPECT_EQ(philox4x32({0, 0, 0, 0}, {0, 0}), (Words{0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}));
  constexpr std::uint32_t ones = 0xffffffff;
  EXPECT_EQ(philox4x32({ones, ones, ones, ones}, {ones, ones}), (Words{0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}));
  EXPECT_EQ(philox4x32({0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344}, {0xa4093822, 0x299f31d0}),
            (Words{0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1}));
}

TEST(Rng, FirstNumberIsThatOfTheZeroCounter) { EXPECT_EQ(Rng(0).next(), 0xe169c58d6627e8d5u); }

RC_GTEST_PROP(RngProperties, IsAFunctionOfSeedStreamAndPosition, (std::uint64_t seed, std::uint64_t stream)) {
  Rng rng(seed, stream);
  const auto skipped = *rc::gen::inRange(0, 50);
  for (int i = 0; i < skipped; ++i) rng.next();
  Rng jumped(seed, stream, static_cast<std::uint64_t>(skipped));
  RC_ASSERT(rng == jumped);
  RC_ASSERT(rng.next() == jumped.next());
  RC_ASSERT(rng.next() != Rng(seed, stream + 1, rng.position() - 1).next());
  RC_ASSERT(rng.split(stream) == Rng(seed, stream));
  RC_ASSERT(Rng::from_state_dict(rng.state_dict()) == rng);
}

TEST(Rng, DrawsCountAsDocumented) {
  Rng rng(1);
  rng.uniform();
  rng.uniform(2, 3);
  rng.below(10);
  rng.chance(0.5);
  EXPECT_EQ(rng.position(), 4u);
  rng.normal();
  EXPECT_EQ(rng.position(), 6u);
}

// low + (high - low) * u, which rounds to high when few numbers lie between.
TEST(Rng, UniformStaysBelowItsBound) {
  const double next = std::nextafter(1.0, 2.0);
  int rounded = 0;
  for (std::uint64_t position = 0; position < 200; ++position) {
    const double u = Rng(3, 0, position).uniform();
    EXPECT_EQ(Rng(3, 0, position).uniform(1, next), 1.0);
    rounded += 1 + (next - 1) * u == next;
    for (const auto& [low, high] : {std::pair{-2.0, 5.0}, std::pair{0.9, 1.1}, std::pair{4.0, 4.0}, std::pair{3.0, -1.0}})
      EXPECT_EQ(Rng(3, 0, position).uniform(low, high), low + (high - low) * u);
  }
  EXPECT_GT(rounded, 50);
}

TEST(Rng, DistributionsHaveTheirMoments) {
  Rng rng(2026);
  constexpr int n = 200'000;
  double sum = 0, square = 0, uniform = 0;
  std::array<int, 7> faces{};
  int heads = 0;
  for (int i = 0; i < n; ++i) {
    const double x = rng.normal();
    sum += x;
    square += x * x;
    const double u = rng.uniform(-1, 3);
    ASSERT_TRUE(u >= -1 && u < 3);
    uniform += u;
    ++faces.at(rng.below(7));
    heads += rng.chance(0.25);
  }
  // Five standard errors of each estimate.
  EXPECT_NEAR(sum / n, 0, 5 / std::sqrt(n));
  EXPECT_NEAR(square / n, 1, 5 * std::sqrt(2.0 / n));
  EXPECT_NEAR(uniform / n, 1, 5 * 4 / std::sqrt(12.0 * n));
  for (int count : faces) EXPECT_NEAR(count, n / 7.0, 5 * std::sqrt(n * (6.0 / 49)));
  EXPECT_NEAR(heads, n * 0.25, 5 * std::sqrt(n * 0.25 * 0.75));
}

TEST(Rng, EdgesHold) {
  Rng rng(3);
  EXPECT_THROW(rng.below(0), Error);
  EXPECT_EQ(rng.below(1), 0u);
  for (int i = 0; i < 100; ++i) {
    EXPECT_FALSE(rng.chance(0));
    EXPECT_TRUE(rng.chance(1));
  }
  EXPECT_THROW(Rng::from_state_dict({{"seed", 1}}), FormatError);
}

TEST(Rng, GivesGeneratorsForAten) {
  Rng a(5), b(5), c(6);
  auto ga = a.generator(), gb = b.generator(), gc = c.generator();
  const auto ra = at::rand({8}, ga), rb = at::rand({8}, gb), rc = at::rand({8}, gc);
  EXPECT_TRUE(ra.equal(rb));
  EXPECT_FALSE(ra.equal(rc));
}

TEST(Rng, DefaultGeneratorStateComesBack) {
  seed_everything(11);
  const Dict state = deep_clone(default_generator_state());
  const auto first = at::rand({4});
  EXPECT_FALSE(first.equal(at::rand({4})));
  set_default_generator_state(state);
  EXPECT_TRUE(first.equal(at::rand({4})));
  seed_everything(11);
  EXPECT_TRUE(first.equal(at::rand({4})));
}

// numpy.random.seed(seed), then numpy.random.randint(2**31) four times.
TEST(Rng, RandomSeedsAreNumpys) {
  const std::map<std::uint64_t, std::vector<std::uint32_t>> numpys{{0, {209652396, 398764591, 924231285, 1478610112}},
                                                                   {42, {1608637542, 1273642419, 1935803228, 787846414}},
                                                                   {0xffffffff, {419326371, 479346978, 1771170828, 269265991}}};
  for (const auto& [seed, expected] : numpys) {
    seed_everything(seed);
    for (const std::uint32_t number : expected) EXPECT_EQ(random_seed(), number) << seed;
  }
}

TEST(Rng, RandomSeedsLeaveTheDefaultGeneratorAlone) {
  seed_everything(7);
  const at::Tensor expected = at::rand({4});
  seed_everything(7);
  random_seed();
  EXPECT_TRUE(at::rand({4}).equal(expected));
}

TEST(Rng, ABadGeneratorStateChangesNothing) {
  seed_everything(12);
  const Dict before = deep_clone(default_generator_state());
  EXPECT_THROW(set_default_generator_state({}), FormatError);
  EXPECT_THROW(set_default_generator_state({{"cpu", "x"}}), FormatError);
  EXPECT_THROW(set_default_generator_state({{"cpu", at::rand({4}, at::Generator(Rng(1).generator()))}}), FormatError);
  const at::Tensor bytes = before.at("cpu").as_tensor();
  EXPECT_THROW(set_default_generator_state({{"cpu", bytes.slice(0, 0, 100)}}), FormatError);
  for (int i = 0; i < accelerator_count(); ++i) {
    Dict bad = before;
    bad.set("cpu", at::Generator(Rng(1).generator()).get_state());
    bad.set(default_device(i).str(), before.at(default_device(i).str()).as_tensor().slice(0, 0, 3));
    EXPECT_THROW(set_default_generator_state(bad), FormatError);
  }
  EXPECT_TRUE(identical(before, default_generator_state()));
}

TEST(Rng, AGeneratorStateOfOtherDevicesLeavesTheirsAlone) {
  Dict state = deep_clone(default_generator_state());
  const at::Tensor expected = at::rand({4});
  state.set("cuda:100", at::zeros({3}, at::kByte));
  set_default_generator_state(state);
  EXPECT_TRUE(at::rand({4}).equal(expected));
  set_default_generator_state({{"cpu", state.at("cpu")}});
  EXPECT_TRUE(at::rand({4}).equal(expected));
}

}  // namespace
}  // namespace treadle

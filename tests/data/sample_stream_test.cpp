#include <treadle/base/errors.hpp>
#include <treadle/data/sample_stream.hpp>

#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include "tests/data/draw.hpp"
#include "tests/data/fixed_group.hpp"

namespace treadle {
namespace {

using Ids = std::vector<std::int64_t>;

/// 0, 1, …, size - 1, pass after pass. Its state is the place: reading on from there needs nothing before it.
class Counting final : public SampleStream {
 public:
  explicit Counting(std::int64_t size, std::int64_t bad = -1) : size_(size), bad_(bad) {}
  std::optional<Sample> next() override {
    if (place_ == size_) {
      place_ = 0;
      return std::nullopt;
    }
    if (place_ == bad_) throw FormatError("broken record", "log.txt", 7);
    return Sample{{"x", place_++}};
  }
  void rewind() override { place_ = 0; }
  Dict state_dict() const override { return {{"place", place_}}; }
  void check_state_dict(const Dict& state) const override { state.at("place").as_int(); }
  void load_state_dict(const Dict& state) override { place_ = state.at("place").as_int(); }

 private:
  std::int64_t size_, bad_;
  std::int64_t place_ = 0;
};

std::unique_ptr<BatchSource> source(std::int64_t size, StreamLoaderOptions options, std::int64_t bad = -1) {
  options.transform = [](Sample sample, Rng& rng) {
    sample.set("noise", rng.uniform());
    return sample;
  };
  return make_batch_source(std::make_unique<Counting>(size, bad), std::move(options));
}

TEST(SampleStream, BatchesAreTheSameHoweverFarItReadsAhead) {
  for (bool drop_last : {false, true}) {
    const auto run = [&](int prefetch) {
      return draw(*source(11, {.batch_size = 4, .prefetch = prefetch, .drop_last = drop_last, .seed = 3}), 12);
    };
    const List expected = run(0);
    for (int prefetch : {1, 2, 8}) EXPECT_TRUE(identical(run(prefetch), expected)) << prefetch;
    std::vector<std::size_t> sizes;
    for (const Value& item : expected) sizes.push_back(item.is_null() ? 0 : item.as_dict().at("ids").as_list().size());
    const std::vector<std::size_t> whole{4, 4, 3, 0, 4, 4, 3, 0, 4, 4, 3, 0}, full{4, 4, 0, 4, 4, 0, 4, 4, 0, 4, 4, 0};
    EXPECT_EQ(sizes, drop_last ? full : whole);
  }
}

TEST(SampleStream, SeedAndPositionAreTheRandomness) {
  EXPECT_TRUE(identical(draw(*source(5, {.batch_size = 2, .seed = 1}), 8), draw(*source(5, {.batch_size = 2, .seed = 1}), 8)));
  EXPECT_FALSE(identical(draw(*source(5, {.batch_size = 2, .seed = 1}), 1), draw(*source(5, {.batch_size = 2, .seed = 2}), 1)));
  const auto one = source(3, {.batch_size = 3});
  const Batch first = one->next().value();
  EXPECT_EQ(one->next(), std::nullopt);
  const Batch second = one->next().value();
  EXPECT_EQ(second.ids(), (Ids{3, 4, 5})) << "positions run on over passes";
  EXPECT_FALSE(identical(first.field("noise"), second.field("noise")));
}

RC_GTEST_PROP(SampleStream, ResumesWhereTheCallerStands, ()) {
  const int size = *rc::gen::inRange(1, 12);
  StreamLoaderOptions options{.batch_size = *rc::gen::inRange(1, 5),
                              .prefetch = *rc::gen::inRange(0, 5),
                              .drop_last = *rc::gen::arbitrary<bool>(),
                              .seed = 5};
  const auto one = source(size, options);
  draw(*one, *rc::gen::inRange(0, 12));
  const Dict state = deep_clone(one->state_dict());
  options.prefetch = *rc::gen::inRange(0, 5);
  const auto other = source(size, options);
  draw(*other, *rc::gen::inRange(0, 5));
  other->load_state_dict(state);
  RC_ASSERT(identical(other->state_dict(), state));
  const List following = draw(*one, 8);
  RC_ASSERT(identical(draw(*other, 8), following));
  one->load_state_dict(state);
  RC_ASSERT(identical(draw(*one, 8), following));
}

TEST(SampleStream, RanksShareTheStreamAndTheWorldMayChange) {
  const auto alone = source(23, {.batch_size = 4});
  std::vector<std::unique_ptr<BatchSource>> two;
  for (int rank : {0, 1}) two.push_back(source(23, {.batch_size = 2, .group = fixed_group(rank, 2)}));
  const auto expect_same_step = [&] {
    const auto all = alone->next();
    for (std::size_t rank : {0u, 1u}) {
      const auto part = two[rank]->next();
      ASSERT_EQ(part.has_value(), all.has_value());
      Ids expected;
      for (std::size_t i = rank; all && i < all->ids().size(); i += 2) expected.push_back(all->ids()[i]);
      if (all) {
        EXPECT_EQ(part->ids(), expected);
      }
    }
  };
  for (int step = 0; step < 17; ++step) {
    expect_same_step();
    EXPECT_TRUE(identical(two[0]->state_dict(), alone->state_dict()));
    EXPECT_TRUE(identical(two[1]->state_dict(), alone->state_dict()));
  }
  alone->load_state_dict(two[1]->state_dict());
  expect_same_step();
}

TEST(SampleStream, AnErrorArrivesWithItsPositionAndNothingIsLost) {
  for (int prefetch : {0, 3}) {
    const auto broken = source(10, {.batch_size = 2, .prefetch = prefetch, .name = "log"}, 5);
    broken->next();
    broken->next();
    for (int attempt = 0; attempt < 2; ++attempt) {
      try {
        broken->next();
        ADD_FAILURE();
      } catch (const SampleError& error) {
        EXPECT_STREQ(error.what(), "sample 5 of \"log\": \"log.txt\" at byte 7: broken record");
        EXPECT_EQ(error.index(), 5);
      }
      EXPECT_EQ(broken->state_dict().at("position").as_int(), 4);
    }
  }
}

TEST(SampleStream, RewindsAndNamesItself) {
  for (int prefetch : {0, 3}) {
    const auto stream = source(10, {.batch_size = 2, .prefetch = prefetch, .name = "log"});
    stream->next();
    stream->rewind();
    const Batch batch = stream->next().value();
    EXPECT_EQ(batch.tensor("x")[0].item<int>(), 0);
    EXPECT_EQ(batch.ids(), (Ids{2, 3}));
    EXPECT_EQ(stream->name(), "log");
  }
}

TEST(SampleStream, OfFunctions) {
  std::int64_t place = 0;
  SampleStreamFunctions functions{.next = [&]() -> std::optional<Sample> { return Sample{{"x", place++}}; },
                                  .rewind = [&] { place = 0; },
                                  .state = {.state_dict = [&] { return Dict{{"place", place}}; },
                                            .load_state_dict = [&](const Dict& state) { place = state.at("place").as_int(); }}};
  SampleStreamFunctions without_state = functions;
  without_state.state = {};
  EXPECT_THROW(make_sample_stream(without_state), ConfigError);
  StreamLoaderOptions options{.batch_size = 2, .prefetch = 0};
  options.collate = [](std::vector<Sample> samples) { return Dict{{"count", samples.size()}}; };
  const auto stream = make_batch_source(make_sample_stream(functions), options);
  EXPECT_EQ(stream->next()->field("count").as_int(), 2);
  const Dict state = stream->state_dict();
  stream->next();
  EXPECT_EQ(place, 4);
  stream->load_state_dict(state);
  EXPECT_EQ(place, 2);
  stream->rewind();
  EXPECT_EQ(place, 0);
  EXPECT_THROW(make_batch_source(std::unique_ptr<SampleStream>(), StreamLoaderOptions{}), ConfigError);
  EXPECT_THROW(validate(StreamLoaderOptions{.batch_size = 0}), ConfigError);
  EXPECT_THROW(validate(StreamLoaderOptions{.prefetch = -1}), ConfigError);
}

}  // namespace
}  // namespace treadle

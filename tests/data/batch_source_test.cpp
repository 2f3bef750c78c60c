#include <treadle/base/errors.hpp>
#include <treadle/base/log.hpp>
#include <treadle/data/batch_source.hpp>

#include <gtest/gtest.h>

#include <list>

namespace treadle {
namespace {

Batch batch_of(std::int64_t id) { return Batch({{"x", List{id}}}, {id}); }

std::int64_t id_of(const std::optional<Batch>& batch) { return batch ? batch->ids().at(0) : -1; }

/// Counts 0, 1, 2, end; 0, 1, 2, end; …
std::function<std::optional<Batch>()> counter(std::shared_ptr<std::int64_t> place) {
  return [place]() -> std::optional<Batch> {
    if (*place == 3) {
      *place = 0;
      return std::nullopt;
    }
    return batch_of((*place)++);
  };
}

std::vector<std::int64_t> draw(BatchSource& source, int count) {
  std::vector<std::int64_t> ids;
  for (int i = 0; i < count; ++i) ids.push_back(id_of(source.next()));
  return ids;
}

using Ids = std::vector<std::int64_t>;

TEST(VectorSource, PassAfterPass) {
  auto source = make_batch_source(std::vector<Batch>{batch_of(7), batch_of(8)}, "mine");
  EXPECT_EQ(source->name(), "mine");
  EXPECT_EQ(source->batches_per_pass(), 2);
  EXPECT_EQ(draw(*source, 6), (Ids{7, 8, -1, 7, 8, -1}));
  source->next();
  source->rewind();
  EXPECT_EQ(draw(*source, 3), (Ids{7, 8, -1}));
}

TEST(VectorSource, ResumesAnywhere) {
  for (int drawn = 0; drawn < 5; ++drawn) {
    auto one = make_batch_source({batch_of(7), batch_of(8)}), other = make_batch_source({batch_of(7), batch_of(8)});
    draw(*one, drawn);
    other->load_state_dict(one->state_dict());
    EXPECT_EQ(draw(*one, 5), draw(*other, 5));
  }
}

TEST(VectorSource, RefusesStatesThatDoNotFit) {
  auto source = make_batch_source({batch_of(7), batch_of(8)});
  EXPECT_THROW(source->check_state_dict({{"batches", 3}, {"place", 0}}), FormatError);
  EXPECT_THROW(source->check_state_dict({{"batches", 2}, {"place", 3}}), FormatError);
  EXPECT_THROW(source->check_state_dict({{"batches", 2}, {"place", -1}}), FormatError);
  EXPECT_THROW(source->check_state_dict({}), FormatError);
}

TEST(FunctionSource, CallsTheFunction) {
  auto source = make_batch_source(counter(std::make_shared<std::int64_t>(0)), {.name = "mine", .batches_per_pass = 3});
  EXPECT_EQ(source->name(), "mine");
  EXPECT_EQ(source->batches_per_pass(), 3);
  EXPECT_EQ(draw(*source, 5), (Ids{0, 1, 2, -1, 0}));
  source->rewind();
  EXPECT_EQ(draw(*source, 2), (Ids{0, 1})) << "without a function of its own, rewind draws the rest of the pass";
  EXPECT_THROW(make_batch_source(std::function<std::optional<Batch>()>()), ConfigError);
}

TEST(FunctionSource, RewindIsTheUsersWhenGiven) {
  auto place = std::make_shared<std::int64_t>(0);
  auto source = make_batch_source(counter(place), {.rewind = [place] { *place = 1; }});
  source->next();
  source->rewind();
  EXPECT_EQ(draw(*source, 2), (Ids{1, 2}));
}

TEST(FunctionSource, SavesWhatTheUserSays) {
  auto place = std::make_shared<std::int64_t>(0);
  BatchFunctionOptions options{.state = {.state_dict = [place] { return Dict{{"place", *place}}; },
                                         .check_state_dict = [](const Dict& state) { state.at("place").as_int(); },
                                         .load_state_dict = [place](const Dict& state) { *place = state.at("place").as_int(); }}};
  auto source = make_batch_source(counter(place), options);
  draw(*source, 2);
  Dict state = source->state_dict();
  draw(*source, 3);
  EXPECT_THROW(source->check_state_dict({}), FormatError);
  source->load_state_dict(state);
  EXPECT_EQ(draw(*source, 2), (Ids{2, -1}));
  options.state.load_state_dict = nullptr;
  EXPECT_THROW(make_batch_source(counter(place), options), ConfigError);
}

TEST(FunctionSource, WithoutStateALoadWarns) {
  std::vector<std::string> warnings;
  LogCapture capture([&](LogLevel level, std::string_view line) {
    if (level == LogLevel::warning) warnings.emplace_back(line);
  });
  auto source = make_batch_source(counter(std::make_shared<std::int64_t>(0)), {.name = "mine"});
  EXPECT_TRUE(source->state_dict().empty());
  source->check_state_dict({});
  source->load_state_dict({});
  ASSERT_EQ(warnings.size(), 1u);
  EXPECT_NE(warnings[0].find("mine"), std::string::npos);
}

TEST(RangeSource, WalksTheRangeAgainAndAgain) {
  std::list<int> range = {4, 5};
  auto source = make_batch_source(range, [](int number) { return batch_of(number); }, {.name = "mine"});
  EXPECT_EQ(draw(*source, 6), (Ids{4, 5, -1, 4, 5, -1}));
  source->next();
  source->rewind();
  EXPECT_EQ(draw(*source, 3), (Ids{4, 5, -1}));
  EXPECT_EQ(source->name(), "mine");
}

TEST(RangeSource, AnEmptyRangeIsAnEmptyPass) {
  std::list<int> range;
  auto source = make_batch_source(range, [](int number) { return batch_of(number); });
  EXPECT_EQ(draw(*source, 2), (Ids{-1, -1}));
}

TEST(RangeSource, RewindsBesideTheUsersFunction) {
  std::list<int> range = {4, 5, 6};
  int rewinds = 0;
  auto source = make_batch_source(range, [](int number) { return batch_of(number); }, {.rewind = [&] { ++rewinds; }});
  draw(*source, 2);
  source->rewind();
  EXPECT_EQ(draw(*source, 4), (Ids{4, 5, 6, -1}));
  EXPECT_EQ(rewinds, 1);
}

}  // namespace
}  // namespace treadle

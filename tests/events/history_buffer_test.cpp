#include <treadle/base/errors.hpp>
#include <treadle/events/history_buffer.hpp>

#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include <algorithm>
#include <cmath>

namespace treadle {
namespace {

/// The last `window` values, all for 0: the definition, on a plain vector.
std::vector<double> tail(const std::vector<double>& values, std::size_t window) {
  const std::size_t n = window == 0 ? values.size() : std::min(window, values.size());
  return {values.end() - static_cast<std::ptrdiff_t>(n), values.end()};
}

HistoryBuffer filled(const std::vector<double>& values, std::int64_t max_length) {
  HistoryBuffer history({.max_length = max_length});
  for (const double value : values) history.update(value);
  return history;
}

RC_GTEST_PROP(HistoryBuffer, KeepsTheNewestValues, (std::vector<int> numbers)) {
  const auto length = *rc::gen::inRange<std::size_t>(1, 12);
  const auto window = *rc::gen::inRange<std::size_t>(0, 15);
  const std::vector<double> values(numbers.begin(), numbers.end());
  const HistoryBuffer history = filled(values, static_cast<std::int64_t>(length));
  const std::vector<double> kept = tail(values, length);

  RC_ASSERT(history.count() == static_cast<std::int64_t>(values.size()));
  RC_ASSERT(history.size() == static_cast<std::int64_t>(std::min(length, values.size())));
  const auto samples = history.values();
  for (std::size_t i = 0; i < samples.size(); ++i) {
    const std::size_t nth = values.size() - samples.size() + i;
    RC_ASSERT(samples[i].value == values[nth]);
    RC_ASSERT(samples[i].iteration == static_cast<std::int64_t>(nth));
    RC_ASSERT(history[static_cast<std::int64_t>(i)] == samples[i]);
  }
  if (values.empty()) return;

  std::vector<double> last = window == 0 ? tail(values, length) : tail(kept, window);
  std::sort(last.begin(), last.end());
  const std::size_t n = last.size();
  const double middle = n % 2 ? last[n / 2] : (last[n / 2 - 1] + last[n / 2]) / 2;
  RC_ASSERT(history.median(static_cast<std::int64_t>(window)) == middle);
  RC_ASSERT(history.latest() == values.back());
  double sum = 0;  // of integers: exact in any order
  for (const double value : last) sum += value;
  RC_ASSERT(history.avg(static_cast<std::int64_t>(window)) == sum / static_cast<double>(n));
}

RC_GTEST_PROP(HistoryBuffer, GlobalAverageDoesNotDependOnTheBound, (std::vector<double> values)) {
  const double bounded = filled(values, 3).global_avg(), whole = filled(values, 1'000'000).global_avg();
  RC_ASSERT(bounded == whole || (std::isnan(bounded) && std::isnan(whole)));
}

RC_GTEST_PROP(HistoryBuffer, StateContinuesTheSeries, (std::vector<double> before, std::vector<double> after)) {
  const auto length = *rc::gen::inRange<std::int64_t>(1, 12);
  HistoryBuffer whole = filled(before, length), resumed({.max_length = length});
  const Dict state = whole.state_dict();
  resumed.update(17);
  resumed.check_state_dict(state);
  resumed.load_state_dict(state);
  for (const double value : after) {
    whole.update(value);
    resumed.update(value);
  }
  RC_ASSERT(identical(whole.state_dict(), resumed.state_dict()));
}

TEST(HistoryBuffer, CountsTheSamplesOfAWindowOfIterations) {
  HistoryBuffer history;
  EXPECT_EQ(history.count_within(20), 0);
  for (const std::int64_t iteration : {0, 50, 60, 69, 70}) history.update(1, iteration);
  EXPECT_EQ(history.count_within(1), 1);
  EXPECT_EQ(history.count_within(2), 2);
  EXPECT_EQ(history.count_within(10), 2);
  EXPECT_EQ(history.count_within(20), 3);
  EXPECT_EQ(history.count_within(21), 4);
  EXPECT_EQ(history.count_within(1000), 5);
}

TEST(HistoryBuffer, LoadsTheNewestOfALongerState) {
  const HistoryBuffer longer = filled({1, 2, 3, 4, 5}, 10);
  HistoryBuffer shorter({.max_length = 2});
  shorter.load_state_dict(longer.state_dict());
  EXPECT_EQ(shorter.values(), (std::vector<HistoryBuffer::Sample>{{4, 3}, {5, 4}}));
  EXPECT_EQ(shorter.count(), 5);
  EXPECT_EQ(shorter.global_avg(), 3);
}

TEST(HistoryBuffer, StateDoesNotAliasTheBuffer) {
  HistoryBuffer history = filled({1, 2}, 2);
  const Dict state = history.state_dict();
  history.update(9);
  HistoryBuffer loaded({.max_length = 2});
  loaded.load_state_dict(state);
  EXPECT_EQ(loaded.latest(), 2);
}

TEST(HistoryBuffer, RefusesBadStates) {
  const HistoryBuffer history = filled({1, 2}, 10);
  const Dict good = history.state_dict();
  EXPECT_NO_THROW(history.check_state_dict(good));
  for (const char* key : {"values", "iterations", "count", "global_avg"}) {
    Dict bad = good;
    bad.erase(key);
    EXPECT_THROW(history.check_state_dict(bad), FormatError) << key;
    bad.set(key, "text");
    EXPECT_THROW(history.check_state_dict(bad), FormatError) << key;
  }
  Dict fewer = good;
  fewer.set("count", 1);
  EXPECT_THROW(history.check_state_dict(fewer), FormatError);
  Dict uneven = good;
  uneven.set("iterations", filled({1}, 10).state_dict().at("iterations"));
  EXPECT_THROW(history.check_state_dict(uneven), FormatError);
  Dict swapped = good;
  swapped.set("values", good.at("iterations"));
  EXPECT_THROW(history.check_state_dict(swapped), FormatError);
}

TEST(HistoryBuffer, RefusesBadUse) {
  EXPECT_THROW(HistoryBuffer({.max_length = 0}), ConfigError);
  EXPECT_THROW(validate(HistoryBufferOptions{.max_length = -1}), ConfigError);
  HistoryBuffer history;
  EXPECT_THROW(history.latest(), Error);
  EXPECT_THROW(history.median(-1), Error);
  EXPECT_TRUE(std::isnan(history.avg(5)));
  history.update(1);
  history.clear();
  EXPECT_EQ(history.count(), 0);
  EXPECT_EQ(history.global_avg(), 0);
  EXPECT_THROW(history.latest(), Error);
}

}  // namespace
}  // namespace treadle

#include <treadle/base/errors.hpp>
#include <treadle/base/log.hpp>
#include <treadle/events/event_storage.hpp>

#include <ATen/ops/arange.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/full.h>
#include <ATen/ops/ones.h>
#include <ATen/ops/rand.h>
#include <ATen/ops/scalar_tensor.h>
#include <ATen/ops/tensor.h>
#include <ATen/ops/zeros.h>
#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include <cmath>
#include <limits>
#include <thread>

namespace treadle {
namespace {

std::string error_of(const std::function<void()>& action) {
  try {
    action();
  } catch (const Error& error) {
    return error.what();
  }
  return "";
}

bool mentions(const std::string& text, std::initializer_list<const char*> words) {
  return std::all_of(words.begin(), words.end(), [&](const char* word) { return text.find(word) != std::string::npos; });
}

std::vector<std::string> names(const EventStorage& storage) {
  std::vector<std::string> result;
  for (const auto& [name, newest] : storage.latest()) result.push_back(name);
  return result;
}

using Names = std::vector<std::string>;

TEST(EventStorage, CountsIterationsFromTheStart) {
  EventStorage storage(7);
  EXPECT_EQ(storage.iter(), 7);
  storage.step();
  EXPECT_EQ(storage.iter(), 8);
  storage.put_scalar("a", 1);
  storage.put_scalar("a", 2, true, 40);
  storage.set_iter(3);
  storage.put_scalars({{"a", 3.0}, {"b", 4.0}});
  storage.put_scalars({{"c", 5.0}}, false, 9);
  EXPECT_EQ(storage.history("a").values(), (std::vector<HistoryBuffer::Sample>{{1, 8}, {2, 40}, {3, 3}}));
  EXPECT_EQ(storage.history("b").values(), (std::vector<HistoryBuffer::Sample>{{4, 3}}));
  EXPECT_EQ(storage.history("c").values(), (std::vector<HistoryBuffer::Sample>{{5, 9}}));
  EXPECT_EQ(storage.smoothing_hints(), (EventStorage::Named<bool>{{"a", true}, {"b", true}, {"c", false}}));
}

TEST(EventStorage, ScalarIdsAreTheSameScalars) {
  EventStorage storage;
  const ScalarId id = storage.scalar("loss");
  EXPECT_TRUE(storage.latest().empty());
  EXPECT_TRUE(storage.histories().empty());
  EXPECT_EQ(storage.find_history("loss"), nullptr);
  storage.put_scalar("other", 0);
  storage.put(id, 1);
  storage.put_scalar("loss", 2);
  storage.put(id, 3, 5);
  EXPECT_EQ(storage.scalar("loss"), id);
  EXPECT_EQ(names(storage), (Names{"other", "loss"}));
  EXPECT_EQ(storage.history("loss").values(), (std::vector<HistoryBuffer::Sample>{{1, 0}, {2, 0}, {3, 5}}));
  EXPECT_THROW(storage.scalar("loss", false), Error);
  EXPECT_THROW(storage.put_scalar("loss", 4, false), Error);
  EXPECT_EQ(storage.history("loss").count(), 3);
}

TEST(EventStorage, ScopesNestAndEndWithTheirBlock) {
  EventStorage storage;
  {
    const auto outer = storage.name_scope("a//");
    storage.put_scalar("x", 1);
    try {
      const auto inner = storage.name_scope("b/c");
      storage.put(storage.scalar("y"), 2);
      throw std::runtime_error("out");
    } catch (const std::runtime_error&) {
    }
    storage.put_scalar("z", 3);
  }
  storage.put_scalar("x", 4);
  EXPECT_EQ(names(storage), (Names{"a/x", "a/b/c/y", "a/z", "x"}));
}

TEST(EventStorage, AMismatchedHintRecordsNothing) {
  EventStorage storage(5);
  storage.put_scalar("x", 1, false);
  const std::string message = error_of([&] { storage.put_scalar("x", 2, true); });
  EXPECT_TRUE(mentions(message, {"\"x\"", "iteration 5", "smoothed"})) << message;
  EXPECT_EQ(storage.history("x").count(), 1);
  EXPECT_FALSE(storage.smoothing_hints()[0].second);
}

TEST(EventStorage, TakesTensorsOfOneElement) {
  EventStorage storage(12);
  storage.put_scalar("double", at::scalar_tensor(0.1, at::kDouble));
  storage.put_scalar("float", at::full({1, 1}, 0.1f, at::kFloat));
  storage.put_scalar("long", at::scalar_tensor(7, at::kLong), false, 3);
  EXPECT_EQ(storage.history("double").latest(), 0.1);
  EXPECT_EQ(storage.history("float").latest(), static_cast<double>(0.1f));
  EXPECT_EQ(storage.history("long").values(), (std::vector<HistoryBuffer::Sample>{{7, 3}}));
}

TEST(EventStorage, RefusesTensorsThatAreNoPlainNumber) {
  EventStorage storage(12);
  const auto scope = storage.name_scope("s");
  const at::Tensor bad[] = {at::Tensor(), at::empty({0}), at::zeros({2}), at::ones({1}).requires_grad_(),
                            at::ones({1}, at::kComplexFloat)};
  for (const at::Tensor& value : bad) {
    const std::string message = error_of([&] { storage.put_scalar("loss", value); });
    EXPECT_TRUE(mentions(message, {"\"s/loss\"", "iteration 12"})) << message;
  }
  EXPECT_TRUE(storage.latest().empty());
}

TEST(EventStorage, AnUnknownScalarIsNotMadeByAsking) {
  const EventStorage storage(3);
  const std::string message = error_of([&] { storage.history("nope"); });
  EXPECT_TRUE(mentions(message, {"\"nope\"", "iteration 3"})) << message;
  EXPECT_EQ(storage.count_samples("nope"), 0);
  EXPECT_TRUE(storage.histories().empty());
}

TEST(EventStorage, SmoothsOverIterationsNotSamples) {
  EventStorage storage;
  for (int i = 0; i <= 40; i += 10) {
    storage.set_iter(i);
    storage.put_scalar("noisy", i);
    storage.put_scalar("plain", i, false);
  }
  EXPECT_EQ(storage.count_samples("noisy"), 2);
  EXPECT_EQ(storage.count_samples("noisy", 21), 3);
  const auto latest = storage.latest_with_smoothing_hint(21);
  EXPECT_EQ(latest[0].second.value, 30);
  EXPECT_EQ(latest[0].second.iteration, 40);
  EXPECT_EQ(latest[1].second.value, 40);
  EXPECT_EQ(storage.latest()[0].second.value, 40);
}

TEST(EventStorage, BoundsItsHistories) {
  EventStorage storage(0, {.history_length = 3});
  for (int i = 0; i < 10; ++i) storage.put_scalar("x", i);
  EXPECT_EQ(storage.history("x").size(), 3);
  EXPECT_EQ(storage.history("x").global_avg(), 4.5);
  EXPECT_THROW(EventStorage(0, {.history_length = 0}), ConfigError);
  EXPECT_THROW(EventStorage(0, {.max_pending = 0}), ConfigError);
  EXPECT_THROW(validate(EventStorageOptions{.history_length = -3}), ConfigError);
}

TEST(EventStorage, KeepsImagesAsBytes) {
  EventStorage storage(4);
  const at::Tensor planes = at::arange(2 * 4 * 3, at::kByte).reshape({3, 2, 4});
  storage.put_image("planes", planes);
  storage.put_image("pixels", planes.permute({1, 2, 0}));
  storage.put_image("grey", at::tensor({0.0f, 0.5f, 1.0f, 2.0f, -1.0f, std::nanf("")}).reshape({1, 2, 3}));
  ASSERT_EQ(storage.images().size(), 3U);
  for (int i = 0; i < 2; ++i) {
    const ImageEvent& image = storage.images()[static_cast<std::size_t>(i)];
    EXPECT_EQ(image.iteration, 4);
    EXPECT_TRUE(image.pixels.is_contiguous());
    EXPECT_TRUE(image.pixels.equal(planes.permute({1, 2, 0}))) << image.name;
  }
  EXPECT_TRUE(storage.images()[2].pixels.flatten().equal(at::tensor({0, 127, 255, 255, 0, 0}, at::kByte)));
  planes.fill_(0);
  EXPECT_EQ(storage.images()[0].pixels.max().item().toInt(), 23);
  storage.clear_images();
  EXPECT_TRUE(storage.images().empty());
}

TEST(EventStorage, RefusesWhatIsNoImage) {
  EventStorage storage(4);
  const at::Tensor bad[] = {at::Tensor(), at::zeros({4, 4}, at::kByte), at::zeros({2, 5, 5}, at::kByte),
                            at::zeros({3, 4, 4}, at::kInt), at::zeros({3, 0, 4}, at::kByte)};
  for (const at::Tensor& image : bad) {
    const std::string message = error_of([&] { storage.put_image("picture", image); });
    EXPECT_TRUE(mentions(message, {"\"picture\"", "iteration 4"})) << message;
  }
  EXPECT_TRUE(storage.images().empty());
}

TEST(EventStorage, DropsTheOldestThatNobodyTakes) {
  std::vector<std::string> warnings;
  const LogCapture capture([&](LogLevel level, std::string_view text) {
    if (level == LogLevel::warning) warnings.emplace_back(text);
  });
  EventStorage storage(0, {.max_pending = 2});
  for (int i = 0; i < 5; ++i) {
    storage.set_iter(i);
    storage.put_image("i", at::zeros({1, 1, 1}, at::kByte));
    storage.put_histogram("h", at::ones({1}));
  }
  ASSERT_EQ(storage.images().size(), 2U);
  EXPECT_EQ(storage.images()[0].iteration, 3);
  ASSERT_EQ(storage.histograms().size(), 2U);
  EXPECT_EQ(storage.histograms()[0].iteration, 3);
  EXPECT_EQ(warnings.size(), 1U);
}

RC_GTEST_PROP(EventStorage, HistogramsCountEveryElement, (std::vector<std::int16_t> numbers)) {
  RC_PRE(!numbers.empty());
  const auto bins = *rc::gen::inRange<std::int64_t>(1, 40);
  std::vector<double> values(numbers.begin(), numbers.end());
  EventStorage storage(2);
  storage.put_histogram("h", at::tensor(values, at::kDouble), bins);
  const HistogramEvent& event = storage.histograms().at(0);
  double sum = 0, squares = 0, counted = 0;
  for (const double value : values) {
    sum += value;
    squares += value * value;
  }
  for (const double count : event.counts) counted += count;
  const auto [low, high] = std::minmax_element(values.begin(), values.end());
  RC_ASSERT(event.min == *low);
  RC_ASSERT(event.max == *high);
  RC_ASSERT(event.sum == sum);
  RC_ASSERT(event.sum_squares == squares);
  RC_ASSERT(event.number == static_cast<std::int64_t>(values.size()));
  RC_ASSERT(counted == static_cast<double>(values.size()));
  RC_ASSERT(event.iteration == 2);
  RC_ASSERT(event.counts.size() == static_cast<std::size_t>(bins));
  RC_ASSERT(event.limits.size() == static_cast<std::size_t>(bins));
  RC_ASSERT(std::is_sorted(event.limits.begin(), event.limits.end()));
  RC_ASSERT(event.limits.back() >= event.max);
}

TEST(EventStorage, HistogramBucketsEndAtTheirLimits) {
  EventStorage storage;
  storage.put_histogram("h", at::tensor({0.0, 1.0, 1.5, 3.9, 4.0}), 4);
  storage.put_histogram("integers", at::tensor({0, 1, 3, 4}, at::kInt), 4);
  EXPECT_EQ(storage.histograms()[0].limits, (std::vector<double>{1, 2, 3, 4}));
  EXPECT_EQ(storage.histograms()[0].counts, (std::vector<double>{1, 2, 0, 2}));
  EXPECT_EQ(storage.histograms()[1].counts, (std::vector<double>{1, 1, 0, 2}));
  storage.clear_histograms();
  EXPECT_TRUE(storage.histograms().empty());
}

TEST(EventStorage, RefusesBadHistograms) {
  EventStorage storage(4);
  const float infinity = std::numeric_limits<float>::infinity();
  for (const at::Tensor& values :
       {at::Tensor(), at::empty({0}), at::tensor({1.0f, infinity}), at::tensor({std::nanf(""), 1.0f})}) {
    const std::string message = error_of([&] { storage.put_histogram("weights", values); });
    EXPECT_TRUE(mentions(message, {"\"weights\"", "iteration 4"})) << message;
  }
  EXPECT_THROW(storage.put_histogram("weights", at::ones({2}), 0), Error);
  EXPECT_TRUE(storage.histograms().empty());
}

void fill(EventStorage& storage) {
  storage.put_scalars({{"b", 1.0}, {"a", 2.0}});
  storage.put_scalar("lr", 0.1, false);
  storage.put_image("i", at::rand({3, 2, 2}));
  storage.put_histogram("h", at::rand({8}), 5);
  storage.step();
  storage.put_scalar("a", 3);
}

TEST(EventStorage, StateBringsEverythingBack) {
  EventStorage storage(5);
  fill(storage);
  const Dict state = deep_clone(storage.state_dict());
  EventStorage other(99);
  const ScalarId a = other.scalar("a", false), gone = other.scalar("gone");
  other.put(gone, 1);
  other.put_image("old", at::zeros({1, 1, 1}));
  other.check_state_dict(state);
  other.load_state_dict(state);

  EXPECT_TRUE(identical(other.state_dict(), state));
  EXPECT_EQ(other.iter(), 6);
  EXPECT_EQ(names(other), (Names{"b", "a", "lr"}));
  EXPECT_EQ(other.find_history("gone"), nullptr);
  other.put(a, 9);
  EXPECT_EQ(other.history("a").latest(), 9);
  other.put(gone, 2);
  EXPECT_EQ(names(other).back(), "gone");
  EXPECT_THROW(other.put_scalar("a", 1, false), Error);
}

TEST(EventStorage, ABadStateChangesNothing) {
  EventStorage storage;
  fill(storage);
  const Dict good = storage.state_dict();
  EXPECT_NO_THROW(storage.check_state_dict(good));
  for (const Dict::Entry& entry : good) {
    Dict bad = good;
    bad.erase(entry.key);
    EXPECT_THROW(storage.check_state_dict(bad), FormatError) << entry.key.to_string();
    bad.set(entry.key, Value(1.5));
    EXPECT_THROW(storage.check_state_dict(bad), FormatError) << entry.key.to_string();
  }
  for (const char* list : {"images", "histograms"}) {
    for (const Value& no_list : {Value(Tuple()), Value(Dict()), Value(Tuple{good.at(list).as_list()[0]})}) {
      Dict bad = good;
      bad.set(list, no_list);
      EXPECT_THROW(storage.check_state_dict(bad), FormatError) << list << " " << describe(no_list);
    }
    for (const Dict::Entry& entry : good.at(list).as_list()[0].as_dict()) {
      Dict bad = good;
      bad.at(list).as_list()[0].as_dict().set(entry.key, nullptr);
      EXPECT_THROW(storage.check_state_dict(bad), FormatError) << list << " " << entry.key.to_string();
    }
  }
  for (const char* key : {"smoothing_hint", "history"}) {
    Dict bad = good;
    bad.at("scalars").as_dict().at("a").as_dict().erase(key);
    EXPECT_THROW(storage.check_state_dict(bad), FormatError) << key;
  }
  EXPECT_TRUE(identical(storage.state_dict(), good));
}

TEST(CurrentEventStorage, BelongsToItsThreadAndScope) {
  EXPECT_FALSE(has_event_storage());
  try {
    get_event_storage();
    FAIL();
  } catch (const Error& error) {
    EXPECT_NE(std::string(error.what()).find("inside of training"), std::string::npos);
    EXPECT_NE(std::string(error.what()).find("CurrentEventStorage"), std::string::npos);
  }
  EventStorage outer, inner;
  {
    const CurrentEventStorage first(outer);
    EXPECT_EQ(&get_event_storage(), &outer);
    {
      const CurrentEventStorage second(inner);
      EXPECT_EQ(&get_event_storage(), &inner);
      std::thread([] { EXPECT_FALSE(has_event_storage()); }).join();
    }
    EXPECT_EQ(&get_event_storage(), &outer);
  }
  EXPECT_FALSE(has_event_storage());
}

}  // namespace
}  // namespace treadle

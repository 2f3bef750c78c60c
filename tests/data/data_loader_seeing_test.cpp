// What a loader says about its work, and what it does about samples that cannot be made.
#include <treadle/base/errors.hpp>
#include <treadle/base/log.hpp>
#include <treadle/data/data_loader.hpp>
#include <treadle/data/training_samplers.hpp>

#include <ATen/ops/full.h>
#include <gtest/gtest.h>

#include <atomic>
#include <map>
#include <mutex>
#include <set>
#include <thread>

#include "tests/support/fake_group.hpp"

namespace treadle {
namespace {

using Ids = std::vector<std::int64_t>;

class Made final : public Dataset {
 public:
  using Get = std::function<Sample(std::int64_t)>;
  Made(std::int64_t size, Get get) : size_(size), get_(std::move(get)) {}
  std::int64_t size() const override { return size_; }
  Sample get(std::int64_t index, Rng&) const override { return get_(index); }

 private:
  std::int64_t size_;
  Get get_;
};

std::unique_ptr<DataLoader> loader(std::int64_t size, Made::Get get, DataLoaderOptions options) {
  return std::make_unique<DataLoader>(std::make_shared<Made>(size, std::move(get)), std::make_unique<SequentialSampler>(size),
                                      std::move(options));
}

void spend(std::chrono::microseconds time) {
  const auto end = std::chrono::steady_clock::now() + time;
  while (std::chrono::steady_clock::now() < end) {
  }
}

using std::chrono::microseconds;

TEST(LoaderTimes, WaitingIsSplitIntoDecodingAndCollating) {
  for (const bool slow_decode : {true, false}) {
    DataLoaderOptions options{.batch_size = 2, .num_workers = 0};
    options.collate = [&](std::vector<Sample> samples) {
      if (!slow_decode) spend(microseconds(3000));
      return collate(std::move(samples));
    };
    const auto source = loader(
        4,
        [&](std::int64_t index) {
          if (slow_decode && index == 3) spend(microseconds(3000));
          return Sample{{"x", index}};
        },
        options);
    EXPECT_EQ(source->waited()->decode, 0);
    source->next();
    const BatchWait before = source->waited().value();
    source->next();
    const BatchWait wait{source->waited()->decode - before.decode, source->waited()->collate - before.collate};
    EXPECT_GE(slow_decode ? wait.decode : wait.collate, 0.003);
    const LoaderTimes& times = source->times();
    EXPECT_EQ(times.batches, 2);
    EXPECT_GE(times.waited.decode + times.waited.collate, wait.decode + wait.collate);
    ASSERT_EQ(times.workers.size(), 1u);
    EXPECT_GE(slow_decode ? times.workers[0].decode : times.workers[0].collate, 0.003);
    EXPECT_EQ(times.workers_now, 0);
  }
}

TEST(LoaderTimes, TheSlowSampleIsNamed) {
  const DataLoader* loader_under_way = nullptr;
  const auto source = loader(2,
                             [&](std::int64_t index) {
                               if (index == 1) {  // longer than whatever the first took
                                 const double longest = loader_under_way->times().slowest_sample_seconds;
                                 spend(microseconds(1000 + static_cast<std::int64_t>(2e6 * longest)));
                               }
                               return Sample{{"x", index}};
                             },
                             {.num_workers = 0});
  loader_under_way = source.get();
  EXPECT_EQ(source->times().slowest_sample, -1);
  source->next();
  EXPECT_EQ(source->times().slowest_sample, 0);
  source->next();
  EXPECT_EQ(source->times().slowest_sample, 1);
  EXPECT_GE(source->times().slowest_sample_seconds, 0.001);
}

TEST(LoaderTimes, TellWhichWorkerMadeABatch) {
  std::mutex mutex;
  std::map<std::int64_t, std::thread::id> thread_of_sample;
  const auto source = loader(64,
                             [&](std::int64_t index) {
                               std::lock_guard lock(mutex);
                               thread_of_sample[index] = std::this_thread::get_id();
                               return Sample{{"x", index}};
                             },
                             {.num_workers = 3});
  std::map<int, std::set<std::thread::id>> threads_of_worker;
  while (const auto batch = source->next()) {
    std::lock_guard lock(mutex);
    threads_of_worker[source->times().last_worker].insert(thread_of_sample.at(batch->ids()[0]));
  }
  std::int64_t batches = 0;
  for (const WorkerTimes& worker : source->times().workers) batches += worker.batches;
  EXPECT_EQ(batches, 64);
  for (const auto& [worker, threads] : threads_of_worker) EXPECT_EQ(threads.size(), 1u) << worker;
}

TEST(LoaderTimes, TheSlowWorkerIsTheOneWithTheMostTimeABatch) {
  LoaderTimes times;
  EXPECT_EQ(times.slowest_worker(), std::nullopt);
  times.workers = {{.batches = 10, .decode = 5, .collate = 1}, {.batches = 2, .decode = 1, .collate = 1}, {}, {.batches = 1}};
  EXPECT_EQ(times.slowest_worker(), 1u);
}

TEST(AutoWorkers, GrowWhileTheCallerWaits) {
  std::atomic<std::int64_t> made = 0;
  const auto source = loader(100'000,
                             [&](std::int64_t index) {
                               spend(microseconds(500));
                               ++made;
                               return Sample{{"x", index}};
                             },
                             {.num_workers = auto_workers});
  source->next();
  EXPECT_EQ(source->times().workers_now, 1);
  const auto most = static_cast<int>(std::thread::hardware_concurrency());
  for (int i = 0; i < 400 && source->times().workers_now < std::min(most, 2); ++i) source->next();
  EXPECT_EQ(source->times().workers_now, std::min(most, 2)) << "a caller that only waits";
}

/// Samples 2, 3 and 9 of ten cannot be made.
Sample with_holes(std::int64_t index) {
  if (index == 2 || index == 3 || index == 9) throw FormatError("not a picture", std::to_string(index) + ".png", 40);
  return Sample{{"x", index}};
}

TEST(SkippedSamples, AreLeftOutCountedAndWarnedAbout) {
  for (int workers : {0, 2}) {
    std::vector<std::string> warnings;
    const LogCapture capture([&](LogLevel level, std::string_view text) {
      if (level == LogLevel::warning) warnings.emplace_back(text);
    });
    const auto source = loader(10, with_holes, {.batch_size = 5, .num_workers = workers, .max_skipped = 3, .name = "mine"});
    EXPECT_EQ(source->next()->ids(), (Ids{0, 1, 4}));
    EXPECT_EQ(source->skipped(), 2);
    const Dict state = deep_clone(source->state_dict());
    EXPECT_EQ(source->next()->ids(), (Ids{5, 6, 7, 8}));
    EXPECT_EQ(source->skipped(), 3);
    ASSERT_EQ(warnings.size(), 3u);
    EXPECT_EQ(warnings[0], "left out: sample 2 of \"mine\": \"2.png\" at byte 40: not a picture");
    source->load_state_dict(state);
    EXPECT_EQ(source->skipped(), 2) << "the state is that of the caller";
    EXPECT_EQ(source->next()->ids(), (Ids{5, 6, 7, 8}));
  }
}

TEST(SkippedSamples, OneTooManyIsAnErrorAndSoIsABatchWithoutAny) {
  for (int workers : {0, 2}) {
    const auto source = loader(10, with_holes, {.batch_size = 5, .num_workers = workers, .max_skipped = 2});
    EXPECT_TRUE(source->next());
    for (int attempt = 0; attempt < 2; ++attempt) {
      try {
        source->next();
        ADD_FAILURE();
      } catch (const Error& error) {
        EXPECT_NE(std::string(error.what()).find("3 samples of \"data\" could not be made, 2 may be left out"),
                  std::string::npos);
        EXPECT_NE(std::string(error.what()).find("\"9.png\" at byte 40"), std::string::npos);
      }
      EXPECT_EQ(source->skipped(), 2);
    }
    const auto pairs = loader(10, with_holes, {.batch_size = 2, .num_workers = workers, .max_skipped = 100});
    EXPECT_TRUE(pairs->next());
    EXPECT_THROW(pairs->next(), SampleError);
  }
}

// Another rank has left out one sample for each of ours: all ranks see the same sum at the same batch.
TEST(SkippedSamples, AreCountedOverAllRanks) {
  for (const std::int64_t most : {4, 3}) {
    const auto group = std::make_shared<FakeGroup>(0, 2);
    int gathered = 0;
    group->play_all_gather = [&](const Value& own) {
      ++gathered;
      return List{own, 2};
    };
    const auto source = loader(10, with_holes, {.batch_size = 5, .num_workers = 1, .max_skipped = most, .group = group});
    if (most == 4) {
      EXPECT_EQ(source->next()->ids(), (Ids{0, 1, 4}));
      EXPECT_THROW(source->next(), Error) << "3 here, 2 there";
      EXPECT_EQ(gathered, 2);
    } else {
      EXPECT_THROW(source->next(), Error) << "2 here, 2 there";
    }
    EXPECT_THROW(loader(1, with_holes, {.max_skipped = 1, .group = group})->check_state_dict({}), FormatError);
  }
}

TEST(DataLoader, CopiesToTheDeviceAheadOfTheCaller) {
  for (int workers : {0, 2}) {
    const auto source = loader(4, [](std::int64_t index) { return Sample{{"x", at::full({3}, index)}, {"label", index}}; },
                               {.batch_size = 2, .num_workers = workers, .device = c10::Device(c10::kMeta)});
    const Batch batch = source->next().value();
    EXPECT_TRUE(batch.tensor("x").is_meta());
    EXPECT_EQ(batch.tensor("x").sizes(), (at::IntArrayRef{2, 3}));
    EXPECT_TRUE(batch.tensor("label").is_meta());
    EXPECT_EQ(batch.ids(), (Ids{0, 1}));
    const auto on_cpu = loader(4, [](std::int64_t index) { return Sample{{"x", index}}; }, {.device = c10::Device(c10::kCPU)});
    EXPECT_TRUE(on_cpu->next()->tensor("x").is_cpu());
  }
}

TEST(DataLoader, HandsOverTheVeryTensorThatAWorkerMade) {
  std::mutex mutex;
  std::vector<const void*> made;
  DataLoaderOptions options{.batch_size = 2, .num_workers = 1};
  options.collate = [&](std::vector<Sample> samples) {
    Dict fields = collate(std::move(samples));
    std::lock_guard lock(mutex);
    made.push_back(fields.at("x").as_tensor().data_ptr());
    return fields;
  };
  const auto source = loader(4, [](std::int64_t index) { return Sample{{"x", at::full({1 << 16}, index)}}; }, options);
  const Batch first = source->next().value(), second = source->next().value();
  std::lock_guard lock(mutex);
  EXPECT_EQ((std::vector<const void*>{first.tensor("x").data_ptr(), second.tensor("x").data_ptr()}), made);
}

TEST(DataLoader, TakesABatchSampler) {
  std::vector<std::int32_t> group_of{0, 1, 0, 1, 0, 1};
  DataLoader source(std::make_shared<Made>(6, [](std::int64_t index) { return Sample{{"x", index}}; }),
                    std::make_unique<GroupedBatchSampler>(std::make_unique<SequentialSampler>(6), group_of, 3, nullptr),
                    {.batch_size = 1, .num_workers = 1});
  EXPECT_EQ(source.batches_per_pass(), std::nullopt);
  EXPECT_EQ(source.samples_per_epoch(), 6);
  EXPECT_EQ(source.next()->ids(), (Ids{0, 2, 4}));
  const Dict state = deep_clone(source.state_dict());
  EXPECT_EQ(source.next()->ids(), (Ids{1, 3, 5}));
  EXPECT_EQ(source.next(), std::nullopt);
  source.load_state_dict(state);
  EXPECT_EQ(source.next()->ids(), (Ids{1, 3, 5}));
}

}  // namespace
}  // namespace treadle

#include <treadle/base/errors.hpp>
#include <treadle/data/data_loader.hpp>
#include <treadle/data/training_samplers.hpp>

#include <ATen/Parallel.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/equal.h>
#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include <atomic>
#include <condition_variable>
#include <filesystem>
#include <latch>
#include <mutex>
#include <set>
#include <thread>

#include "tests/data/draw.hpp"
#include "tests/data/fixed_group.hpp"

namespace treadle {
namespace {

using Ids = std::vector<std::int64_t>;

/// Samples made by a function of (index, rng).
class FunctionDataset final : public Dataset {
 public:
  using Get = std::function<Sample(std::int64_t, Rng&)>;
  FunctionDataset(std::int64_t size, Get get) : size_(size), get_(std::move(get)) {}
  std::int64_t size() const override { return size_; }
  Sample get(std::int64_t index, Rng& rng) const override { return get_(index, rng); }

 private:
  std::int64_t size_;
  Get get_;
};

std::shared_ptr<const Dataset> made_by(std::int64_t size, FunctionDataset::Get get) {
  return std::make_shared<FunctionDataset>(size, std::move(get));
}

/// A data set whose samples depend on their randomness and take unequal time.
std::shared_ptr<const Dataset> noise(std::int64_t size) {
  return made_by(size, [](std::int64_t index, Rng& rng) {
    for (std::int64_t i = 0; i < index % 3; ++i) std::this_thread::yield();
    return Sample{{"index", index}, {"noise", rng.uniform()}};
  });
}

std::shared_ptr<const Dataset> numbers(std::int64_t size) {
  return std::make_shared<TensorDataset>(Dict{{"x", at::arange(size)}});
}

std::unique_ptr<Sampler> shuffled(std::int64_t size) {
  return std::make_unique<TrainingSampler>(size, TrainingSamplerOptions{.seed = 3}, nullptr);
}
std::unique_ptr<Sampler> sequence(std::int64_t size) { return std::make_unique<SequentialSampler>(size); }

TEST(DataLoader, TheSameBytesForAnyNumberOfWorkersAndPrefetch) {
  auto run = [](int workers, int prefetch, bool finite) {
    DataLoader loader(noise(23), finite ? sequence(23) : shuffled(23),
                      {.batch_size = 4, .num_workers = workers, .prefetch = prefetch, .seed = 9});
    return draw(loader, 20);
  };
  for (bool finite : {false, true}) {
    const List expected = run(0, 1, finite);
    for (int workers : {1, 2, 7, auto_workers}) {
      for (int prefetch = 1; prefetch <= 8; ++prefetch)
        EXPECT_TRUE(identical(run(workers, prefetch, finite), expected)) << workers << prefetch;
    }
  }
}

TEST(DataLoader, SampleRandomnessIsThatOfSeedAndPosition) {
  auto noise_of = [](std::uint64_t seed) {
    DataLoader loader(noise(3), sequence(3), {.batch_size = 3, .num_workers = 0, .seed = seed});
    std::set<double> values;
    for (int pass = 0; pass < 2; ++pass) {
      at::Tensor noise = loader.next()->tensor("noise");
      for (int i = 0; i < 3; ++i) values.insert(noise[i].item<double>());
      EXPECT_FALSE(loader.next());
    }
    return values;
  };
  EXPECT_EQ(noise_of(1).size(), 6u) << "every sample of every pass has its own";
  EXPECT_EQ(noise_of(1), noise_of(1));
  EXPECT_NE(noise_of(1), noise_of(2));

  // Rank r's i-th sample has the randomness of the single process's sample i * ranks + r.
  DataLoader alone(noise(5), shuffled(5), {.batch_size = 6, .seed = 1});
  const at::Tensor all = alone.next()->tensor("noise");
  for (int rank = 0; rank < 2; ++rank) {
    DataLoader part(noise(5), std::make_unique<TrainingSampler>(5, TrainingSamplerOptions{.seed = 3}, fixed_group(rank, 2)),
                    {.batch_size = 3, .seed = 1});
    EXPECT_TRUE(at::equal(part.next()->tensor("noise"), all.slice(0, rank, 6, 2)));
  }
}

// What was prepared ahead is no part of the state: the first batch after a load is the one the caller would have got next.
RC_GTEST_PROP(DataLoader, ResumesWhereTheCallerStands, ()) {
  const bool finite = *rc::gen::arbitrary<bool>();
  const int size = *rc::gen::inRange(1, 12);
  const int drawn = *rc::gen::inRange(0, 12);
  const int drawn_by_other = *rc::gen::inRange(0, 5);
  DataLoaderOptions options{.batch_size = *rc::gen::inRange(1, 5),
                            .num_workers = *rc::gen::inRange(0, 3),
                            .prefetch = *rc::gen::inRange(1, 5),
                            .drop_last = *rc::gen::arbitrary<bool>(),
                            .seed = 5};
  auto sampler = [&] { return finite ? sequence(size) : shuffled(size); };
  DataLoader one(noise(size), sampler(), options);
  draw(one, drawn);
  const Dict state = deep_clone(one.state_dict());
  options.seed = 6;
  options.num_workers = *rc::gen::inRange(0, 3);
  DataLoader other(noise(size), sampler(), options);
  draw(other, drawn_by_other);
  other.load_state_dict(state);
  RC_ASSERT(identical(other.state_dict(), state));
  const List following = draw(one, 8);
  RC_ASSERT(identical(draw(other, 8), following));
  one.load_state_dict(state);
  RC_ASSERT(identical(draw(one, 8), following));
}

TEST(DataLoader, EndsPassesAndDropsTheLast) {
  for (int workers : {0, 2}) {
    auto ids = [&](bool drop_last) {
      DataLoader loader(numbers(5), sequence(5), {.batch_size = 2, .num_workers = workers, .drop_last = drop_last});
      EXPECT_EQ(loader.batches_per_pass(), drop_last ? 2 : 3);
      std::vector<Ids> all;
      for (int i = 0; i < 8; ++i) {
        auto batch = loader.next();
        all.push_back(batch ? batch->ids() : Ids{});
      }
      return all;
    };
    EXPECT_EQ(ids(false), (std::vector<Ids>{{0, 1}, {2, 3}, {4}, {}, {0, 1}, {2, 3}, {4}, {}}));
    EXPECT_EQ(ids(true), (std::vector<Ids>{{0, 1}, {2, 3}, {}, {0, 1}, {2, 3}, {}, {0, 1}, {2, 3}}));
  }
}

TEST(DataLoader, RewindBeginsANewPass) {
  for (int workers : {0, 2}) {
    DataLoader loader(noise(5), sequence(5), {.batch_size = 2, .num_workers = workers});
    const double first = loader.next()->tensor("noise")[0].item<double>();
    loader.rewind();
    Batch batch = loader.next().value();
    EXPECT_EQ(batch.ids(), (Ids{0, 1}));
    EXPECT_NE(batch.tensor("noise")[0].item<double>(), first) << "a new pass has new randomness";
    EXPECT_EQ(loader.next()->ids(), (Ids{2, 3}));
  }
}

TEST(DataLoader, AppliesTransformAndCollate) {
  for (int workers : {0, 1}) {
    DataLoaderOptions options{.batch_size = 2, .num_workers = workers, .name = "mine"};
    options.transform = [](Sample sample, Rng&) {
      sample.set("x", sample.at("x").as_tensor().mul(10));
      return sample;
    };
    DataLoader transformed(numbers(4), sequence(4), options);
    EXPECT_EQ(transformed.next()->tensor("x")[1].item<int>(), 10);
    EXPECT_EQ(transformed.name(), "mine");
    EXPECT_EQ(transformed.dataset().size(), 4);
    options.collate = [](std::vector<Sample> samples) { return Dict{{"count", samples.size()}}; };
    DataLoader collated(numbers(4), sequence(4), options);
    Batch batch = collated.next().value();
    EXPECT_EQ(batch.field("count").as_int(), 2);
    EXPECT_EQ(batch.size(), 2);
  }
}

TEST(DataLoader, AnErrorArrivesWithItsSampleAndCanBeTriedAgain) {
  for (int workers : {0, 1, 3}) {
    std::atomic<bool> broken = true;
    auto dataset = made_by(10, [&](std::int64_t index, Rng&) -> Sample {
      if (index == 5 && broken) throw FormatError("not an image", "five.png", 17);
      return {{"x", index}};
    });
    DataLoader loader(dataset, sequence(10), {.batch_size = 2, .num_workers = workers, .name = "mine"});
    loader.next();
    loader.next();
    const Dict before = loader.state_dict();
    for (int attempt = 0; attempt < 2; ++attempt) {
      try {
        loader.next();
        ADD_FAILURE();
      } catch (const SampleError& error) {
        EXPECT_EQ(error.index(), 5);
        EXPECT_STREQ(error.what(), "sample 5 of \"mine\": \"five.png\" at byte 17: not an image");
        EXPECT_THROW(std::rethrow_exception(error.cause()), FormatError);
      }
      EXPECT_TRUE(identical(loader.state_dict(), before));
    }
    broken = false;
    EXPECT_EQ(loader.next()->ids(), (Ids{4, 5}));
    EXPECT_EQ(loader.next()->ids(), (Ids{6, 7}));
  }
}

TEST(DataLoader, ErrorsOfEveryKindArrive) {
  for (int workers : {0, 1}) {
    auto what = [&](FunctionDataset::Get get) -> std::string {
      DataLoader loader(made_by(1, get), sequence(1), {.num_workers = workers});
      try {
        loader.next();
      } catch (const SampleError& error) {
        return error.what();
      }
      return "none";
    };
    EXPECT_EQ(what([](std::int64_t, Rng&) -> Sample { throw 3; }),
              "sample 0 of \"data\": an exception that is no std::exception");
    const std::string torch = what([](std::int64_t, Rng&) { return Sample{{"x", at::arange(3).view({2, 2})}}; });
    EXPECT_EQ(torch.find("frame #"), std::string::npos) << torch;
    DataLoader joining(made_by(2, [](std::int64_t index, Rng&) { return Sample{{index == 0 ? "a" : "b", 1}}; }), sequence(2),
                       {.batch_size = 2, .num_workers = workers});
    EXPECT_THROW(joining.next(), FormatError) << "of collate, as it is";
    // The quick way by whole batches fails too, and the sample is found all the same.
    DataLoader beyond(numbers(3), sequence(4), {.batch_size = 4, .num_workers = workers});
    try {
      beyond.next();
      ADD_FAILURE();
    } catch (const SampleError& error) {
      EXPECT_EQ(error.index(), 3);
    }
  }
}

TEST(DataLoader, WorkersMakeBatchesAtTheSameTime) {
  std::latch both(2);  // opens only when two samples are being made at once
  DataLoader loader(made_by(2,
                            [&](std::int64_t index, Rng&) {
                              both.arrive_and_wait();
                              return Sample{{"x", index}};
                            }),
                    sequence(2), {.num_workers = 2});
  EXPECT_EQ(loader.next()->ids(), (Ids{0}));
  EXPECT_EQ(loader.next()->ids(), (Ids{1}));
}

TEST(DataLoader, PreparesPrefetchPlusOneBatchesAndNoMore) {
  for (int prefetch : {1, 3}) {
    std::mutex mutex;
    std::condition_variable changed;
    int made = 0;
    auto dataset = made_by(100, [&](std::int64_t index, Rng&) {
      std::lock_guard lock(mutex);
      ++made;
      changed.notify_all();
      return Sample{{"x", index}};
    });
    DataLoader loader(dataset, sequence(100), {.num_workers = 2, .prefetch = prefetch});
    for (int taken = 1; taken < 20; ++taken) {
      loader.next();
      std::unique_lock lock(mutex);
      changed.wait(lock, [&] { return made >= taken + prefetch; });
      EXPECT_EQ(made, taken + prefetch);
    }
  }
}

TEST(DataLoader, DestructionDropsWhatHasNotBegun) {
  std::mutex mutex;
  std::condition_variable changed;
  int made = 0;
  bool open = true;
  auto dataset = made_by(1000, [&](std::int64_t index, Rng&) {
    std::unique_lock lock(mutex);
    ++made;
    changed.notify_all();
    changed.wait(lock, [&] { return open || index < 10; });
    return Sample{{"x", index}};
  });
  auto loader = std::make_unique<DataLoader>(dataset, sequence(1000),
                                             DataLoaderOptions{.batch_size = 10, .num_workers = 2, .prefetch = 20});
  {
    std::lock_guard lock(mutex);
    open = false;
  }
  loader->next();
  std::thread opener([&] {
    std::unique_lock lock(mutex);
    changed.wait(lock, [&] { return made >= 12; });  // both workers are inside their second batch
    open = true;
    changed.notify_all();
  });
  opener.join();
  loader.reset();
  EXPECT_LT(made, 1000);
}

std::size_t threads_of_process() {
  auto tasks = std::filesystem::directory_iterator("/proc/self/task");
  return static_cast<std::size_t>(std::distance(begin(tasks), end(tasks)));
}

TEST(DataLoader, LeavesNoThreadBehind) {
  {
    DataLoader warm_up(noise(5), shuffled(5), {.num_workers = 3}), another(noise(5), shuffled(5), {.num_workers = 3});
    warm_up.next();
  }
  const std::size_t before = threads_of_process();
  for (int i = 0; i < 50; ++i) {
    DataLoader loader(noise(50), shuffled(50), {.batch_size = 3, .num_workers = 3});
    if (i % 3 != 0) draw(loader, i % 5);
  }
  EXPECT_EQ(threads_of_process(), before);
  DataLoader idle(noise(5), shuffled(5), {.num_workers = 3});
  EXPECT_EQ(threads_of_process(), before) << "threads start with the first batch";
  idle.next();
  EXPECT_EQ(threads_of_process(), before + 3);
}

TEST(DataLoader, WorkersUseOneThreadForMathAndTheCallerKeepsIts) {
  at::set_num_threads(2);
  std::mutex mutex;
  std::set<int> seen;
  auto dataset = made_by(20, [&](std::int64_t index, Rng&) {
    at::arange(1 << 17).to(at::kFloat).sum();  // a parallel region sets up the thread's team, unless that was done before
    std::lock_guard lock(mutex);
    seen.insert(at::get_num_threads());
    return Sample{{"x", index}};
  });
  DataLoader loader(dataset, sequence(20), {.num_workers = 2});
  while (loader.next()) {
  }
  EXPECT_EQ(seen, (std::set<int>{1}));
  EXPECT_EQ(at::get_num_threads(), 2);
  int later = 0;
  std::thread([&] {
    at::init_num_threads();
    later = at::get_num_threads();
  }).join();
  EXPECT_EQ(later, 2) << "threads that start later are not touched";
}

TEST(DataLoader, RefusesStatesThatDoNotFit) {
  DataLoader loader(noise(5), shuffled(5), {.num_workers = 1});
  const Dict good = loader.state_dict();
  DataLoader larger(noise(6), shuffled(6), {.num_workers = 1});
  EXPECT_THROW(larger.check_state_dict(good), FormatError);
  for (const char* key : {"sampler", "seed"}) {
    Dict bad = good;
    bad.erase(key);
    EXPECT_THROW(loader.check_state_dict(bad), FormatError);
    bad.set(key, "text");
    EXPECT_THROW(loader.load_state_dict(bad), FormatError);
  }
  EXPECT_NO_THROW(loader.load_state_dict(good));
}

TEST(DataLoader, ValidatesItsOptions) {
  auto key = [](DataLoaderOptions options) {
    try {
      validate(options);
    } catch (const ConfigError& error) {
      return error.key();
    }
    return std::string("none");
  };
  EXPECT_EQ(key({.batch_size = 0}), "DataLoaderOptions.batch_size");
  EXPECT_EQ(key({.num_workers = -2}), "DataLoaderOptions.num_workers");
  EXPECT_EQ(key({.prefetch = 0}), "DataLoaderOptions.prefetch");
  EXPECT_EQ(key({}), "none");
  EXPECT_THROW(DataLoader(numbers(1), sequence(1), {.batch_size = 0}), ConfigError);
  EXPECT_THROW(DataLoader(nullptr, sequence(1), {}), ConfigError);
  EXPECT_THROW(DataLoader(numbers(1), std::unique_ptr<Sampler>(), {}), ConfigError);
  EXPECT_THROW(DataLoader(numbers(1), std::unique_ptr<BatchSampler>(), {}), ConfigError);
  EXPECT_EQ(key({.num_workers = auto_workers}), "none");
  EXPECT_EQ(key({.max_skipped = -1}), "DataLoaderOptions.max_skipped");
}

}  // namespace
}  // namespace treadle

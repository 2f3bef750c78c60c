#include <treadle/base/errors.hpp>
#include <treadle/base/log.hpp>
#include <treadle/base/value_view.hpp>
#include <treadle/data/data_loader.hpp>

#include <fmt/format.h>

#include <algorithm>
#include <deque>
#include <thread>
#include <utility>

#include "data/batch_task.hpp"
#include "data/group_view.hpp"
#include "data/loader_workers.hpp"
#include "data/worker_tuner.hpp"

namespace treadle {

void validate(const DataLoaderOptions& options) {
  auto require = [](bool good, const char* key, const char* range, std::int64_t found) {
    if (!good) throw ConfigError(fmt::format("{} must be {}, found {}", key, range, found), key);
  };
  require(options.batch_size >= 1, "DataLoaderOptions.batch_size", "at least 1", options.batch_size);
  require(options.num_workers >= auto_workers && options.num_workers <= 1024, "DataLoaderOptions.num_workers",
          "in [0, 1024], or -1 for as many as help", options.num_workers);
  require(options.prefetch >= 1, "DataLoaderOptions.prefetch", "at least 1", options.prefetch);
  require(options.max_skipped >= 0, "DataLoaderOptions.max_skipped", "at least 0", options.max_skipped);
}

namespace {

/// Separates the randomness of samples from whatever else a program draws from the same seed.
constexpr std::uint64_t sample_stream = 0x73616d706c657300;  // "samples"

using Clock = BatchTask::Clock;

double seconds(Clock::duration duration) { return std::max(0.0, std::chrono::duration<double>(duration).count()); }

int most_workers() { return static_cast<int>(std::max(1u, std::thread::hardware_concurrency())); }

}  // namespace

class DataLoader::Impl {
 public:
  Impl(Recipe recipe, std::unique_ptr<BatchSampler> sampler)
      : recipe_(std::move(recipe)),
        sampler_(std::move(sampler)),
        seed_(recipe_.options.seed),
        consumed_(sampler_->state_dict()),
        tuner_(most_workers()) {}

  std::optional<Batch> next() {
    try {
      fill();
      if (prepared_.empty()) return end_pass();
      BatchTask& task = *prepared_.front();
      const Clock::time_point asked = Clock::now();
      if (workers_) {
        workers_->wait(task);
      } else {
        task.run(0);
      }
      Batch batch = task.take();
      count_skipped(task);
      if (const auto device = recipe_.options.device) use_on_current_stream(batch, *device);
      record(task.times(), asked);
      consumed_ = std::move(task.sampler_after());
      prepared_.pop_front();
      return batch;
    } catch (...) {
      return_to_consumed();
      throw;
    }
  }

  void rewind() {
    drop_prepared();
    sampler_->load_state_dict(consumed_);
    sampler_->rewind();
    consumed_ = sampler_->state_dict();
  }

  std::optional<std::int64_t> batches_per_pass() const { return sampler_->batches_per_pass(); }
  std::optional<std::int64_t> samples_per_epoch() const { return sampler_->samples_per_epoch(); }
  const LoaderTimes& times() const noexcept { return times_; }
  std::int64_t skipped() const noexcept { return skipped_; }

  Dict state_dict() const {
    Dict state{{"sampler", consumed_}, {"seed", static_cast<std::int64_t>(seed_)}};
    if (recipe_.options.max_skipped > 0) state.set("skipped", skipped_);
    return state;
  }

  void check_state_dict(const Dict& state) const {
    ValueView view(state, recipe_.options.name);
    view["seed"].as_int();
    if (state.contains("skipped")) view["skipped"].as_int();
    sampler_->check_state_dict(view["sampler"].as_dict());
  }

  void load_state_dict(const Dict& state) {
    check_state_dict(state);
    seed_ = static_cast<std::uint64_t>(state.at("seed").as_int());
    skipped_ = state.contains("skipped") ? state.at("skipped").as_int() : 0;
    consumed_ = deep_clone(state.at("sampler").as_dict());
    return_to_consumed();
  }

  const Recipe& recipe() const noexcept { return recipe_; }

 private:
  bool is_auto() const { return recipe_.options.num_workers == auto_workers; }

  void fill() {
    const bool threads = recipe_.options.num_workers != 0;
    if (threads && !workers_) {
      times_.workers_now = is_auto() ? tuner_.workers() : recipe_.options.num_workers;
      workers_ = std::make_unique<LoaderWorkers>(times_.workers_now);
    }
    const std::size_t capacity = threads ? static_cast<std::size_t>(recipe_.options.prefetch) + 1 : 1;
    while (!pass_drawn_ && prepared_.size() < capacity) {
      std::optional<std::vector<SamplePlace>> places = sampler_->next();
      if (!places) {
        pass_drawn_ = true;
        break;
      }
      auto task =
          std::make_shared<BatchTask>(recipe_, Rng(seed_, sample_stream).next(), std::move(*places), sampler_->state_dict());
      prepared_.push_back(task);
      if (workers_) workers_->submit(std::move(task));
    }
  }

  void record(const BatchTask::Times& made, Clock::time_point asked) {
    const Clock::time_point now = Clock::now();
    const Clock::time_point fetched = std::clamp(made.fetched, asked, now);
    ++times_.batches;
    times_.waited.decode += seconds(fetched - asked);
    times_.waited.collate += seconds(now - fetched);
    times_.last_worker = made.worker;
    if (std::cmp_less_equal(times_.workers.size(), made.worker)) times_.workers.resize(static_cast<std::size_t>(made.worker) + 1);
    WorkerTimes& worker = times_.workers[static_cast<std::size_t>(made.worker)];
    ++worker.batches;
    worker.decode += seconds(made.fetched - made.begun);
    worker.collate += seconds(made.done - made.fetched);
    if (made.slowest_seconds > times_.slowest_sample_seconds) {
      times_.slowest_sample_seconds = made.slowest_seconds;
      times_.slowest_sample = made.slowest_index;
    }
    if (is_auto() && returned_ != Clock::time_point()) adjust_workers(seconds(now - asked), seconds(now - returned_));
    returned_ = now;
  }

  void adjust_workers(double waited, double elapsed) {
    const int wanted = tuner_.observe(waited, elapsed);
    if (wanted == times_.workers_now) return;
    log_debug(fmt::format("\"{}\": {} workers instead of {}", recipe_.options.name, wanted, times_.workers_now));
    workers_->resize(wanted);
    times_.workers_now = wanted;
  }

  /// All ranks come to the same verdict, at the same batch.
  void count_skipped(const BatchTask& task) {
    const std::int64_t most = recipe_.options.max_skipped;
    if (most == 0) return;
    const std::int64_t own = skipped_ + static_cast<std::int64_t>(task.skipped().size());
    std::int64_t total = own;
    if (const auto& group = recipe_.options.group; group && group->get_world_size() > 1) {
      total = 0;
      for (const Value& of_rank : group->all_gather(own)) total += of_rank.as_int();
    }
    for (const std::string& text : task.skipped()) log_warning(fmt::format("left out: {}", text));
    if (total > most) {
      throw Error(fmt::format("{} samples of \"{}\" could not be made, {} may be left out (max_skipped); {}", total,
                              recipe_.options.name, most,
                              task.skipped().empty() ? "the last one is another rank's" : "the last: " + task.skipped().back()));
    }
    skipped_ = own;
  }

  std::nullopt_t end_pass() {
    pass_drawn_ = false;
    consumed_ = sampler_->state_dict();
    return std::nullopt;
  }

  void drop_prepared() {
    if (workers_) workers_->cancel_all();
    prepared_.clear();
    pass_drawn_ = false;
  }

  void return_to_consumed() {
    drop_prepared();
    sampler_->load_state_dict(consumed_);
  }

  const Recipe recipe_;
  std::unique_ptr<BatchSampler> sampler_;
  std::uint64_t seed_;
  Dict consumed_;                                    // the sampler's state after the last batch that was returned
  std::int64_t skipped_ = 0;                         // until then
  std::deque<std::shared_ptr<BatchTask>> prepared_;  // in order; at most prefetch + 1
  bool pass_drawn_ = false;                          // the end of the pass lies behind the last of prepared_
  WorkerTuner tuner_;
  LoaderTimes times_;
  Clock::time_point returned_;              // when the last batch was
  std::unique_ptr<LoaderWorkers> workers_;  // the last member: its threads use the others
};

namespace {

Recipe recipe_of(std::shared_ptr<const Dataset> dataset, DataLoaderOptions options, bool has_sampler) {
  validate(options);
  if (!dataset) throw ConfigError("a DataLoader needs a data set", "dataset");
  if (!has_sampler) throw ConfigError("a DataLoader needs a sampler", "sampler");
  const bool pinned = options.device && wants_pinned_memory(*options.device);
  return {std::move(dataset), std::move(options), BatchMemory(pinned)};
}

}  // namespace

DataLoader::DataLoader(std::shared_ptr<const Dataset> dataset, std::unique_ptr<Sampler> sampler, DataLoaderOptions options) {
  Recipe recipe = recipe_of(std::move(dataset), std::move(options), sampler != nullptr);
  auto batches = std::make_unique<FixedBatchSampler>(std::move(sampler), recipe.options.batch_size, recipe.options.drop_last);
  impl_ = std::make_unique<Impl>(std::move(recipe), std::move(batches));
}

DataLoader::DataLoader(std::shared_ptr<const Dataset> dataset, std::unique_ptr<BatchSampler> sampler, DataLoaderOptions options) {
  Recipe recipe = recipe_of(std::move(dataset), std::move(options), sampler != nullptr);
  impl_ = std::make_unique<Impl>(std::move(recipe), std::move(sampler));
}

DataLoader::~DataLoader() = default;

std::optional<Batch> DataLoader::next() { return impl_->next(); }
void DataLoader::rewind() { impl_->rewind(); }
std::optional<std::int64_t> DataLoader::batches_per_pass() const { return impl_->batches_per_pass(); }
std::optional<std::int64_t> DataLoader::samples_per_epoch() const {
  const std::optional<std::int64_t> of_sampler = impl_->samples_per_epoch();
  return of_sampler ? of_sampler : dataset().size();
}
std::string DataLoader::name() const { return impl_->recipe().options.name; }
Dict DataLoader::state_dict() const { return impl_->state_dict(); }
void DataLoader::check_state_dict(const Dict& state) const { impl_->check_state_dict(state); }
void DataLoader::load_state_dict(const Dict& state) { impl_->load_state_dict(state); }
const Dataset& DataLoader::dataset() const noexcept { return *impl_->recipe().dataset; }
const LoaderTimes& DataLoader::times() const noexcept { return impl_->times(); }
std::int64_t DataLoader::skipped() const noexcept { return impl_->skipped(); }

}  // namespace treadle

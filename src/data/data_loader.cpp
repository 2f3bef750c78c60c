#include <base/exception_text.hpp>
#include <treadle/base/errors.hpp>
#include <treadle/base/value_view.hpp>
#include <treadle/data/data_loader.hpp>

#include <c10/util/Exception.h>
#include <fmt/format.h>

#include <atomic>
#include <deque>
#include <utility>

#include "data/loader_workers.hpp"

namespace treadle {

void validate(const DataLoaderOptions& options) {
  auto require = [](bool good, const char* key, const char* range, std::int64_t found) {
    if (!good) throw ConfigError(fmt::format("{} must be {}, found {}", key, range, found), key);
  };
  require(options.batch_size >= 1, "DataLoaderOptions.batch_size", "at least 1", options.batch_size);
  require(options.num_workers >= 0 && options.num_workers <= 1024, "DataLoaderOptions.num_workers", "in [0, 1024]",
          options.num_workers);
  require(options.prefetch >= 1, "DataLoaderOptions.prefetch", "at least 1", options.prefetch);
}

namespace {

/// Separates the randomness of samples from whatever else a program draws from the same seed.
constexpr std::uint64_t sample_stream = 0x73616d706c657300;  // "samples"

/// What all batches of a loader are made from. Immutable.
struct Recipe {
  std::shared_ptr<const Dataset> dataset;
  DataLoaderOptions options;
};

struct Place {
  std::int64_t index;
  std::int64_t position;
};

/// One batch: first where it comes from, later its content or what went wrong with it.
class BatchTask final : public LoaderWorkers::Task {
 public:
  BatchTask(const Recipe& recipe, std::uint64_t sample_seed, std::vector<Place> places, Dict sampler_after)
      : recipe_(recipe), sample_seed_(sample_seed), places_(std::move(places)), sampler_after_(std::move(sampler_after)) {}

  void run() noexcept override {
    try {
      batch_ = make();
    } catch (...) {
      error_ = std::current_exception();
    }
  }

  void cancel() noexcept override { cancelled_.store(true, std::memory_order_relaxed); }

  /// After `run`: the batch, or the exception that stands for it.
  Batch take() {
    if (error_) std::rethrow_exception(error_);
    return std::move(batch_);
  }
  /// The state of the sampler once this batch is drawn.
  Dict& sampler_after() { return sampler_after_; }

 private:
  Batch make() const {
    std::vector<std::int64_t> indices;
    indices.reserve(places_.size());
    for (const Place& place : places_) indices.push_back(place.index);
    if (std::optional<Dict> fields = fetch_together(indices)) return Batch(std::move(*fields), std::move(indices));

    std::vector<Sample> samples;
    samples.reserve(places_.size());
    for (const Place& place : places_) {
      if (cancelled_.load(std::memory_order_relaxed)) return {};
      samples.push_back(fetch(place));
    }
    const Collate& collate_samples = recipe_.options.collate;
    return Batch(collate_samples ? collate_samples(std::move(samples)) : collate(std::move(samples)), std::move(indices));
  }

  std::optional<Dict> fetch_together(const std::vector<std::int64_t>& indices) const {
    if (recipe_.options.transform || recipe_.options.collate) return std::nullopt;
    try {
      return recipe_.dataset->get_batch(indices);
    } catch (const std::exception&) {
      return std::nullopt;  // one by one it fails again, and then the sample is known
    }
  }

  Sample fetch(const Place& place) const {
    try {
      Rng rng(sample_seed_, static_cast<std::uint64_t>(place.position));
      Sample sample = recipe_.dataset->get(place.index, rng);
      return recipe_.options.transform ? recipe_.options.transform(std::move(sample), rng) : sample;
    } catch (...) {
      std::exception_ptr cause = std::current_exception();
      throw SampleError(fmt::format("sample {} of \"{}\": {}", place.index, recipe_.options.name, exception_text(cause)),
                        place.index, cause);
    }
  }

  const Recipe& recipe_;
  std::uint64_t sample_seed_;
  std::vector<Place> places_;
  Dict sampler_after_;
  Batch batch_;
  std::exception_ptr error_;
  std::atomic<bool> cancelled_ = false;
};

}  // namespace

class DataLoader::Impl {
 public:
  Impl(Recipe recipe, std::unique_ptr<Sampler> sampler)
      : recipe_(std::move(recipe)),
        sampler_(std::move(sampler)),
        seed_(recipe_.options.seed),
        consumed_(sampler_->state_dict()) {}

  std::optional<Batch> next() {
    try {
      fill();
      if (prepared_.empty()) return end_pass();
      BatchTask& task = *prepared_.front();
      if (workers_) {
        workers_->wait(task);
      } else {
        task.run();
      }
      Batch batch = task.take();
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

  std::optional<std::int64_t> batches_per_pass() const {
    const std::optional<std::int64_t> samples = sampler_->indices_per_pass();
    if (!samples) return std::nullopt;
    const std::int64_t size = recipe_.options.batch_size;
    return recipe_.options.drop_last ? *samples / size : (*samples + size - 1) / size;
  }

  Dict state_dict() const { return {{"sampler", consumed_}, {"seed", static_cast<std::int64_t>(seed_)}}; }

  void check_state_dict(const Dict& state) const {
    ValueView view(state, recipe_.options.name);
    view["seed"].as_int();
    sampler_->check_state_dict(view["sampler"].as_dict());
  }

  void load_state_dict(const Dict& state) {
    check_state_dict(state);
    seed_ = static_cast<std::uint64_t>(state.at("seed").as_int());
    consumed_ = deep_clone(state.at("sampler").as_dict());
    return_to_consumed();
  }

  const Recipe& recipe() const noexcept { return recipe_; }

 private:
  void fill() {
    const bool threads = recipe_.options.num_workers > 0;
    if (threads && !workers_) workers_ = std::make_unique<LoaderWorkers>(recipe_.options.num_workers);
    const std::size_t capacity = threads ? static_cast<std::size_t>(recipe_.options.prefetch) + 1 : 1;
    while (!pass_drawn_ && prepared_.size() < capacity) {
      std::shared_ptr<BatchTask> task = draw();
      if (!task) break;
      prepared_.push_back(task);
      if (workers_) workers_->submit(std::move(task));
    }
  }

  /// The next batch to make; null at the end of the pass.
  std::shared_ptr<BatchTask> draw() {
    std::vector<Place> places;
    places.reserve(static_cast<std::size_t>(recipe_.options.batch_size));
    while (std::cmp_less(places.size(), recipe_.options.batch_size)) {
      const std::int64_t position = sampler_->position();
      const std::optional<std::int64_t> index = sampler_->next();
      if (!index) {
        pass_drawn_ = true;
        if (places.empty() || recipe_.options.drop_last) return nullptr;
        Dict before_end = state_before_end(places.size());
        return make_task(std::move(places), std::move(before_end));
      }
      places.push_back({*index, position});
    }
    return make_task(std::move(places), sampler_->state_dict());
  }

  /// The state between the last batch, of `count` samples, and the end of the pass, which the sampler has just told: a load of it
  /// finds that end again. Walking there twice costs less than asking for the state at every sample.
  Dict state_before_end(std::size_t count) {
    sampler_->load_state_dict(prepared_.empty() ? consumed_ : prepared_.back()->sampler_after());
    for (std::size_t i = 0; i < count; ++i) sampler_->next();
    Dict state = sampler_->state_dict();
    sampler_->next();
    return state;
  }

  std::shared_ptr<BatchTask> make_task(std::vector<Place> places, Dict sampler_after) const {
    return std::make_shared<BatchTask>(recipe_, Rng(seed_, sample_stream).next(), std::move(places), std::move(sampler_after));
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
  std::unique_ptr<Sampler> sampler_;
  std::uint64_t seed_;
  Dict consumed_;                                    // the sampler's state after the last batch that was returned
  std::deque<std::shared_ptr<BatchTask>> prepared_;  // in order; at most prefetch + 1
  bool pass_drawn_ = false;                          // the end of the pass lies behind the last of prepared_
  std::unique_ptr<LoaderWorkers> workers_;           // the last member: its threads use the others
};

DataLoader::DataLoader(std::shared_ptr<const Dataset> dataset, std::unique_ptr<Sampler> sampler, DataLoaderOptions options) {
  validate(options);
  if (!dataset) throw ConfigError("a DataLoader needs a data set", "dataset");
  if (!sampler) throw ConfigError("a DataLoader needs a sampler", "sampler");
  impl_ = std::make_unique<Impl>(Recipe{std::move(dataset), std::move(options)}, std::move(sampler));
}

DataLoader::~DataLoader() = default;

std::optional<Batch> DataLoader::next() { return impl_->next(); }
void DataLoader::rewind() { impl_->rewind(); }
std::optional<std::int64_t> DataLoader::batches_per_pass() const { return impl_->batches_per_pass(); }
std::string DataLoader::name() const { return impl_->recipe().options.name; }
Dict DataLoader::state_dict() const { return impl_->state_dict(); }
void DataLoader::check_state_dict(const Dict& state) const { impl_->check_state_dict(state); }
void DataLoader::load_state_dict(const Dict& state) { impl_->load_state_dict(state); }
const Dataset& DataLoader::dataset() const noexcept { return *impl_->recipe().dataset; }

}  // namespace treadle

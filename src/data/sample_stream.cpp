#include <base/exception_text.hpp>
#include <treadle/base/errors.hpp>
#include <treadle/base/value_view.hpp>
#include <treadle/data/sample_stream.hpp>

#include <fmt/format.h>

#include <atomic>
#include <deque>
#include <utility>

#include "data/group_view.hpp"
#include "data/loader_workers.hpp"

namespace treadle {

void validate(const StreamLoaderOptions& options) {
  auto require = [](bool good, const char* key, std::int64_t least, std::int64_t found) {
    if (!good) throw ConfigError(fmt::format("{} must be at least {}, found {}", key, least, found), key);
  };
  require(options.batch_size >= 1, "StreamLoaderOptions.batch_size", 1, options.batch_size);
  require(options.prefetch >= 0, "StreamLoaderOptions.prefetch", 0, options.prefetch);
}

namespace {

constexpr std::uint64_t sample_stream_number = 0x73616d706c657300;  // "samples"

/// The reader's place: one owner at a time, the thread that runs a task.
struct Reader {
  std::unique_ptr<SampleStream> stream;
  std::int64_t position = 0;  // of the stream's next sample
  bool at_end = false;        // the end of the pass lies behind the last batch
};

/// What does not change from batch to batch.
struct StreamRecipe {
  StreamLoaderOptions options;
  mutable BatchMemory memory;
};

/// Reads one batch. Tasks of one loader run one after the other, in order.
class StreamTask final : public LoaderWorkers::Task {
 public:
  StreamTask(const StreamRecipe& recipe, Reader& reader, std::uint64_t seed, int rank, int world_size)
      : recipe_(recipe),
        reader_(reader),
        sample_seed_(Rng(seed, sample_stream_number).next()),
        rank_(rank),
        world_size_(world_size) {}

  void run(int) noexcept override {
    if (cancelled_.load(std::memory_order_relaxed)) return;
    try {
      batch_ = read();
      stream_after_ = reader_.stream->state_dict();
      position_after_ = reader_.position;
      end_follows_ = reader_.at_end;
    } catch (...) {
      error_ = std::current_exception();
    }
  }
  void cancel() noexcept override { cancelled_.store(true, std::memory_order_relaxed); }

  /// Nothing at the end of a pass.
  std::optional<Batch> take() {
    if (error_) std::rethrow_exception(error_);
    return std::move(batch_);
  }
  Dict& stream_after() noexcept { return stream_after_; }
  std::int64_t position_after() const noexcept { return position_after_; }
  bool end_follows() const noexcept { return end_follows_; }

 private:
  template <class Action>
  auto guarded(std::int64_t position, const Action& action) const {
    try {
      return action();
    } catch (...) {
      std::exception_ptr cause = std::current_exception();
      throw SampleError(fmt::format("sample {} of \"{}\": {}", position, recipe_.options.name, exception_text(cause)), position,
                        cause);
    }
  }

  std::optional<Batch> read() {
    if (std::exchange(reader_.at_end, false)) return std::nullopt;
    const StreamLoaderOptions& options = recipe_.options;
    std::vector<Sample> samples;
    std::vector<std::int64_t> ids;
    const std::int64_t global = options.batch_size * world_size_;
    std::int64_t count = 0;
    for (; count < global; ++count) {
      const std::int64_t position = reader_.position;
      std::optional<Sample> sample = guarded(position, [&] { return reader_.stream->next(); });
      if (!sample) break;
      ++reader_.position;
      if (count % world_size_ != rank_) continue;
      Rng rng(sample_seed_, static_cast<std::uint64_t>(position));
      samples.push_back(options.transform ? guarded(position, [&] { return options.transform(std::move(*sample), rng); })
                                          : std::move(*sample));
      ids.push_back(position);
    }
    if (count == global) return join(std::move(samples), std::move(ids));
    // Too few for every rank to have one: all ranks end the pass together.
    if (count < world_size_ || options.drop_last) return std::nullopt;
    reader_.at_end = true;
    return join(std::move(samples), std::move(ids));
  }

  Batch join(std::vector<Sample> samples, std::vector<std::int64_t> ids) const {
    const Collate& own = recipe_.options.collate;
    return Batch(own ? own(std::move(samples)) : collate_into(std::move(samples), &recipe_.memory), std::move(ids));
  }

  const StreamRecipe& recipe_;
  Reader& reader_;
  std::uint64_t sample_seed_;
  int rank_, world_size_;
  std::optional<Batch> batch_;
  Dict stream_after_;
  std::int64_t position_after_ = 0;
  bool end_follows_ = false;
  std::exception_ptr error_;
  std::atomic<bool> cancelled_ = false;
};

class StreamLoader final : public BatchSource {
 public:
  StreamLoader(std::unique_ptr<SampleStream> stream, StreamLoaderOptions options)
      : recipe_{std::move(options), BatchMemory()}, reader_{.stream = std::move(stream)}, seed_(recipe_.options.seed) {
    stream_consumed_ = reader_.stream->state_dict();
  }

  std::optional<Batch> next() override {
    try {
      fill();
      StreamTask& task = *prepared_.front();
      if (workers_) {
        workers_->wait(task);
      } else {
        task.run(0);
      }
      std::optional<Batch> batch = task.take();
      stream_consumed_ = std::move(task.stream_after());
      position_consumed_ = task.position_after();
      end_follows_ = task.end_follows();
      prepared_.pop_front();
      return batch;
    } catch (...) {
      return_to_consumed();
      throw;
    }
  }

  void rewind() override {
    return_to_consumed();
    reader_.stream->rewind();
    reader_.at_end = end_follows_ = false;
    stream_consumed_ = reader_.stream->state_dict();
  }

  std::string name() const override { return recipe_.options.name; }

  Dict state_dict() const override {
    return {{"stream", stream_consumed_},
            {"position", position_consumed_},
            {"end_follows", end_follows_},
            {"seed", static_cast<std::int64_t>(seed_)}};
  }

  void check_state_dict(const Dict& state) const override {
    const ValueView view(state, recipe_.options.name);
    view["seed"].as_int();
    view["end_follows"].as_bool();
    if (view["position"].as_int() < 0) view["position"].fail("must not be negative");
    const Dict& stream = view["stream"].as_dict();
    if (workers_) workers_->wait_until_idle();
    reader_.stream->check_state_dict(stream);
  }

  void load_state_dict(const Dict& state) override {
    check_state_dict(state);
    seed_ = static_cast<std::uint64_t>(state.at("seed").as_int());
    position_consumed_ = state.at("position").as_int();
    end_follows_ = state.at("end_follows").as_bool();
    stream_consumed_ = deep_clone(state.at("stream").as_dict());
    return_to_consumed();
  }

 private:
  void fill() {
    const StreamLoaderOptions& options = recipe_.options;
    if (options.prefetch > 0 && !workers_) workers_ = std::make_unique<LoaderWorkers>(1);
    const std::size_t capacity = static_cast<std::size_t>(options.prefetch) + 1;
    while (prepared_.size() < (workers_ ? capacity : 1)) {
      auto task = std::make_shared<StreamTask>(recipe_, reader_, seed_, rank_of(options.group), world_size_of(options.group));
      prepared_.push_back(task);
      if (workers_) workers_->submit(std::move(task));
    }
  }

  /// Nobody reads until this returns.
  void return_to_consumed() {
    if (workers_) {
      workers_->cancel_all();
      workers_->wait_until_idle();
    }
    prepared_.clear();
    reader_.stream->load_state_dict(stream_consumed_);
    reader_.position = position_consumed_;
    reader_.at_end = end_follows_;
  }

  const StreamRecipe recipe_;
  Reader reader_;
  std::uint64_t seed_;
  Dict stream_consumed_;
  std::int64_t position_consumed_ = 0;
  bool end_follows_ = false;  // the stream has told the end of the pass already, the caller does not know it yet
  std::deque<std::shared_ptr<StreamTask>> prepared_;
  std::unique_ptr<LoaderWorkers> workers_;  // the last member: its thread uses the others
};

class FunctionStream final : public SampleStream {
 public:
  explicit FunctionStream(SampleStreamFunctions functions)
      : next_(std::move(functions.next)), rewind_(std::move(functions.rewind)), state_(std::move(functions.state)) {}
  std::optional<Sample> next() override { return next_(); }
  void rewind() override { rewind_(); }
  Dict state_dict() const override { return state_.state_dict(); }
  void check_state_dict(const Dict& state) const override { state_.check_state_dict(state); }
  void load_state_dict(const Dict& state) override { state_.load_state_dict(state); }

 private:
  std::function<std::optional<Sample>()> next_;
  std::function<void()> rewind_;
  StatefulFunctions state_;
};

}  // namespace

std::unique_ptr<BatchSource> make_batch_source(std::unique_ptr<SampleStream> stream, StreamLoaderOptions options) {
  validate(options);
  if (!stream) throw ConfigError("make_batch_source needs a stream", "stream");
  return std::make_unique<StreamLoader>(std::move(stream), std::move(options));
}

std::unique_ptr<SampleStream> make_sample_stream(SampleStreamFunctions functions) {
  if (!functions.next || !functions.rewind || !functions.state.state_dict || !functions.state.load_state_dict) {
    throw ConfigError("a SampleStream needs next, rewind, and the state's state_dict and load_state_dict",
                      "SampleStreamFunctions");
  }
  return std::make_unique<FunctionStream>(std::move(functions));
}

}  // namespace treadle

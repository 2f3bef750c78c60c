#include <treadle/base/errors.hpp>
#include <treadle/base/log.hpp>
#include <treadle/base/value_view.hpp>
#include <treadle/data/batch_source.hpp>

#include <fmt/format.h>

namespace treadle {

namespace {

class FunctionSource final : public BatchSource {
 public:
  FunctionSource(std::function<std::optional<Batch>()> next, BatchFunctionOptions options)
      : next_(std::move(next)), options_(std::move(options)) {}

  std::optional<Batch> next() override {
    std::optional<Batch> batch = next_();
    inside_pass_ = batch.has_value();
    return batch;
  }

  void rewind() override {
    if (options_.rewind) {
      options_.rewind();
      inside_pass_ = false;
    } else {
      while (inside_pass_) next();
    }
  }

  std::optional<std::int64_t> batches_per_pass() const override { return options_.batches_per_pass; }
  std::string name() const override { return options_.name; }

  Dict state_dict() const override { return options_.state.state_dict ? options_.state.state_dict() : Dict(); }

  void check_state_dict(const Dict& state) const override {
    if (options_.state.load_state_dict && options_.state.check_state_dict) options_.state.check_state_dict(state);
  }

  void load_state_dict(const Dict& state) override {
    if (options_.state.load_state_dict) {
      options_.state.load_state_dict(state);
    } else {
      log_warning(fmt::format("the batches of \"{}\" have no state: their order starts anew", options_.name));
    }
  }

 private:
  std::function<std::optional<Batch>()> next_;
  BatchFunctionOptions options_;
  bool inside_pass_ = false;
};

class VectorSource final : public BatchSource {
 public:
  VectorSource(std::vector<Batch> batches, std::string name) : batches_(std::move(batches)), name_(std::move(name)) {}

  std::optional<Batch> next() override {
    if (place_ == batches_.size()) {
      place_ = 0;
      return std::nullopt;
    }
    return batches_[place_++];
  }

  void rewind() override { place_ = 0; }
  std::optional<std::int64_t> batches_per_pass() const override { return static_cast<std::int64_t>(batches_.size()); }
  std::string name() const override { return name_; }

  Dict state_dict() const override { return {{"batches", batches_.size()}, {"place", place_}}; }
  void check_state_dict(const Dict& state) const override { read_place(state); }
  void load_state_dict(const Dict& state) override { place_ = read_place(state); }

 private:
  std::size_t read_place(const Dict& state) const {
    ValueView view(state, name_);
    std::int64_t count = view["batches"].as_int();
    std::int64_t place = view["place"].as_int();
    if (count != static_cast<std::int64_t>(batches_.size())) {
      view["batches"].fail(fmt::format("the state is of {} batches, there are {}", count, batches_.size()));
    }
    if (place < 0 || place > count) view["place"].fail(fmt::format("expected a place in [0, {}], found {}", count, place));
    return static_cast<std::size_t>(place);
  }

  std::vector<Batch> batches_;
  std::string name_;
  std::size_t place_ = 0;
};

}  // namespace

std::unique_ptr<BatchSource> make_batch_source(std::function<std::optional<Batch>()> next, BatchFunctionOptions options) {
  if (!next) throw ConfigError("make_batch_source needs a function that returns batches, and was given none", "next");
  if (static_cast<bool>(options.state.state_dict) != static_cast<bool>(options.state.load_state_dict)) {
    throw ConfigError("BatchFunctionOptions.state needs both state_dict and load_state_dict, or neither",
                      "BatchFunctionOptions.state");
  }
  return std::make_unique<FunctionSource>(std::move(next), std::move(options));
}

std::unique_ptr<BatchSource> make_batch_source(std::vector<Batch> batches, std::string name) {
  return std::make_unique<VectorSource>(std::move(batches), std::move(name));
}

}  // namespace treadle

#include <treadle/base/errors.hpp>
#include <treadle/base/rng.hpp>
#include <treadle/base/value_view.hpp>
#include <treadle/data/training_samplers.hpp>

#include <ATen/CPUGeneratorImpl.h>
#include <ATen/ops/multinomial.h>
#include <ATen/ops/rand.h>
#include <ATen/ops/randperm.h>
#include <ATen/ops/tensor.h>
#include <fmt/format.h>

#include <cmath>
#include <numeric>

#include "data/group_view.hpp"

namespace treadle {

namespace {

std::vector<std::int64_t> ascending(std::int64_t size) {
  std::vector<std::int64_t> indices(static_cast<std::size_t>(size));
  std::iota(indices.begin(), indices.end(), 0);
  return indices;
}

std::vector<std::int64_t> random_order(std::int64_t size, const at::Generator& generator) {
  at::Tensor order = at::randperm(size, generator, at::TensorOptions(at::kLong));
  const auto* begin = order.const_data_ptr<std::int64_t>();
  return {begin, begin + size};
}

std::vector<std::int64_t> shuffled(const std::vector<std::int64_t>& indices, const at::Generator& generator) {
  std::vector<std::int64_t> order = random_order(static_cast<std::int64_t>(indices.size()), generator);
  for (std::int64_t& place : order) place = indices[static_cast<std::size_t>(place)];
  return order;
}

std::int64_t positive_size(std::int64_t size, const char* who) {
  if (size < 1) throw ConfigError(fmt::format("{} needs a data set with at least one sample, found {}", who, size), "size");
  return size;
}

// Leaves room for adding a rank and a number of ranks without overflow.
constexpr std::int64_t last_position = std::int64_t{1} << 62;

}  // namespace

std::uint64_t seed_or_shared(std::optional<std::int64_t> seed, const std::shared_ptr<Group>& group) {
  if (seed) return static_cast<std::uint64_t>(*seed);
  return group ? group->shared_random_seed() : random_seed();
}

EpochSampler::EpochSampler(const char* kind, std::int64_t size, std::optional<std::int64_t> seed, std::shared_ptr<Group> group)
    : kind_(kind), size_(positive_size(size, kind)), seed_(seed_or_shared(seed, group)), group_(std::move(group)) {
  rewind();
}

void EpochSampler::rewind() {
  position_ = 0;
  epochs_.clear();
  generator_ = at::make_generator<at::CPUGeneratorImpl>(seed_);
  next_start_ = 0;
  next_generator_ = generator_.get_state();
}

void EpochSampler::draw_next() {
  Epoch epoch{.start = next_start_, .generator = next_generator_, .indices = draw_epoch(generator_)};
  next_start_ = epoch.end();
  next_generator_ = generator_.get_state();
  epochs_.push_back(std::move(epoch));
}

std::optional<std::int64_t> EpochSampler::next() {
  const std::int64_t place = position();
  while (next_start_ <= place) draw_next();
  auto epoch = epochs_.begin();
  while (epoch->end() <= place) ++epoch;
  const std::int64_t index = epoch->indices[static_cast<std::size_t>(place - epoch->start)];

  position_ += world_size_of(group_);
  // The state names the epoch that position_ lies in, or the one that begins there, which need not be drawn yet.
  while (next_start_ < position_) draw_next();
  while (!epochs_.empty() && epochs_.front().end() <= position_) epochs_.pop_front();
  return index;
}

std::int64_t EpochSampler::position() const { return position_ + rank_of(group_); }

Dict EpochSampler::state_dict() const {
  return {{"kind", kind_},
          {"size", size_},
          {"position", position_},
          {"epoch_start", epochs_.empty() ? next_start_ : epochs_.front().start},
          {"generator", epochs_.empty() ? next_generator_ : epochs_.front().generator}};
}

EpochSampler::Place EpochSampler::read(const Dict& state) const {
  ValueView view(state, kind_);
  if (view["kind"].as_string() != kind_) view["kind"].fail(fmt::format("the state is of a {}", view["kind"].as_string()));
  if (view["size"].as_int() != size_) {
    view["size"].fail(fmt::format("the state is of a data set of {} samples, this one has {}", view["size"].as_int(), size_));
  }
  Place place{.position = view["position"].as_int(), .epoch_start = view["epoch_start"].as_int(), .generator = {}};
  if (place.epoch_start < 0 || place.position < place.epoch_start || place.position > last_position) {
    view["position"].fail(fmt::format("position {} cannot lie in an epoch that begins at {}", place.position, place.epoch_start));
  }
  place.generator = at::make_generator<at::CPUGeneratorImpl>();
  try {
    place.generator.set_state(view["generator"].as_tensor());
  } catch (const c10::Error& error) {
    view["generator"].fail(fmt::format("expected the state of a random generator ({})", error.what_without_backtrace()));
  }
  return place;
}

void EpochSampler::check_state_dict(const Dict& state) const {
  Place place = read(state);
  const auto length = static_cast<std::int64_t>(draw_epoch(place.generator).size());
  if (place.position == place.epoch_start || place.position - place.epoch_start < length) return;
  ValueView(state, kind_)["position"].fail(fmt::format("position {} lies behind the epoch of {} samples that begins at {}",
                                                       place.position, length, place.epoch_start));
}

void EpochSampler::load_state_dict(const Dict& state) {
  check_state_dict(state);
  Place place = read(state);
  epochs_.clear();
  position_ = place.position;
  next_start_ = place.epoch_start;
  generator_ = place.generator;
  next_generator_ = generator_.get_state();
  if (position_ > next_start_) draw_next();
}

TrainingSampler::TrainingSampler(std::int64_t size, TrainingSamplerOptions options, std::shared_ptr<Group> group)
    : EpochSampler("TrainingSampler", size, options.seed, std::move(group)), size_(size), shuffle_(options.shuffle) {}

std::vector<std::int64_t> TrainingSampler::draw_epoch(at::Generator& generator) const {
  return shuffle_ ? random_order(size_, generator) : ascending(size_);
}

void validate(const RandomSubsetOptions& options) {
  if (options.ratio > 0 && options.ratio <= 1) return;
  throw ConfigError(fmt::format("RandomSubsetOptions.ratio must be in (0, 1], found {}", options.ratio),
                    "RandomSubsetOptions.ratio");
}

RandomSubsetTrainingSampler::RandomSubsetTrainingSampler(std::int64_t size, const RandomSubsetOptions& options,
                                                         std::shared_ptr<Group> group)
    : EpochSampler("RandomSubsetTrainingSampler", size, options.seed, group), shuffle_(options.shuffle) {
  validate(options);
  const auto count = static_cast<std::int64_t>(static_cast<double>(size) * options.ratio);
  if (count == 0) {
    throw ConfigError(fmt::format("RandomSubsetOptions.ratio {} of {} samples leaves none", options.ratio, size),
                      "RandomSubsetOptions.ratio");
  }
  subset_ = random_order(size, at::make_generator<at::CPUGeneratorImpl>(seed_or_shared(options.subset_seed, group)));
  subset_.resize(static_cast<std::size_t>(count));
}

std::vector<std::int64_t> RandomSubsetTrainingSampler::draw_epoch(at::Generator& generator) const {
  return shuffle_ ? shuffled(subset_, generator) : subset_;
}

RepeatFactorTrainingSampler::RepeatFactorTrainingSampler(std::vector<float> factors, TrainingSamplerOptions options,
                                                         std::shared_ptr<Group> group)
    : EpochSampler("RepeatFactorTrainingSampler", static_cast<std::int64_t>(factors.size()), options.seed, std::move(group)),
      factors_(std::move(factors)),
      shuffle_(options.shuffle) {
  bool some = false;
  for (std::size_t i = 0; i < factors_.size(); ++i) {
    if (!std::isfinite(factors_[i]) || factors_[i] < 0) {
      throw ConfigError(fmt::format("repeat factor {} must be finite and at least 0, found {}", i, factors_[i]), "factors");
    }
    some = some || factors_[i] > 0;
  }
  if (!some) throw ConfigError("all repeat factors are 0: no sample would ever be drawn", "factors");
}

std::vector<std::int64_t> RepeatFactorTrainingSampler::draw_epoch(at::Generator& generator) const {
  std::vector<std::int64_t> indices;
  while (indices.empty()) {  // small factors may round to an epoch without samples, which Detectron2 passes over
    at::Tensor chances = at::rand({static_cast<std::int64_t>(factors_.size())}, generator, at::TensorOptions(at::kFloat));
    const float* chance = chances.const_data_ptr<float>();
    for (std::size_t i = 0; i < factors_.size(); ++i) {
      const float whole = std::trunc(factors_[i]);
      const auto times = static_cast<std::size_t>(whole) + (chance[i] < factors_[i] - whole ? 1 : 0);
      indices.insert(indices.end(), times, static_cast<std::int64_t>(i));
    }
  }
  return shuffle_ ? shuffled(indices, generator) : indices;
}

namespace {

at::Tensor checked_weights(const std::vector<double>& weights, std::int64_t samples_per_epoch, bool replacement) {
  constexpr std::size_t most = std::size_t{1} << 24;
  if (weights.size() > most)
    throw ConfigError(fmt::format("a WeightedTrainingSampler takes at most {} weights, found {}", most, weights.size()),
                      "weights");
  std::int64_t positive = 0;
  for (std::size_t i = 0; i < weights.size(); ++i) {
    if (!std::isfinite(weights[i]) || weights[i] < 0)
      throw ConfigError(fmt::format("weight {} must be finite and at least 0, found {}", i, weights[i]), "weights");
    if (weights[i] > 0) ++positive;
  }
  if (positive == 0) throw ConfigError("all weights are 0: no sample would ever be drawn", "weights");
  if (samples_per_epoch < 0 || (!replacement && samples_per_epoch > positive)) {
    throw ConfigError(fmt::format("WeightedSamplerOptions.samples_per_epoch must be at least 0, and without replacement at most "
                                  "{}, the number of positive weights; found {}",
                                  positive, samples_per_epoch),
                      "WeightedSamplerOptions.samples_per_epoch");
  }
  return at::tensor(weights, at::kDouble);
}

std::int64_t epoch_length(std::int64_t wanted, const std::vector<double>& weights) {
  return wanted != 0 ? wanted : static_cast<std::int64_t>(weights.size());
}

}  // namespace

WeightedTrainingSampler::WeightedTrainingSampler(const std::vector<double>& weights, const WeightedSamplerOptions& options,
                                                 std::shared_ptr<Group> group)
    : EpochSampler("WeightedTrainingSampler", static_cast<std::int64_t>(weights.size()), options.seed, std::move(group)),
      weights_(checked_weights(weights, epoch_length(options.samples_per_epoch, weights), options.replacement)),
      samples_per_epoch_(epoch_length(options.samples_per_epoch, weights)),
      replacement_(options.replacement) {}

std::vector<std::int64_t> WeightedTrainingSampler::draw_epoch(at::Generator& generator) const {
  const at::Tensor drawn = at::multinomial(weights_, samples_per_epoch_, replacement_, generator);
  const auto* begin = drawn.const_data_ptr<std::int64_t>();
  return {begin, begin + samples_per_epoch_};
}

}  // namespace treadle

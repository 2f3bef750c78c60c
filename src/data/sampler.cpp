#include <treadle/base/errors.hpp>
#include <treadle/base/value_view.hpp>
#include <treadle/data/sampler.hpp>

#include <fmt/format.h>

#include <algorithm>

#include "data/group_view.hpp"

namespace treadle {

namespace {

void require_samples(std::int64_t size, const char* who) {
  if (size < 1) throw ConfigError(fmt::format("{} needs a data set with at least one sample, found {}", who, size), "size");
}

/// The integer under `key`, which must be in [low, high].
std::int64_t read_in_range(const ValueView& view, const char* key, std::int64_t low, std::int64_t high) {
  const std::int64_t number = view[key].as_int();
  if (number < low || number > high) view[key].fail(fmt::format("expected a number in [{}, {}], found {}", low, high, number));
  return number;
}

void check_size(const ValueView& view, std::int64_t size) {
  const std::int64_t found = view["size"].as_int();
  if (found != size) view["size"].fail(fmt::format("the state is of a data set of {} samples, this one has {}", found, size));
}

constexpr std::int64_t most_passes = std::int64_t{1} << 30;

}  // namespace

SequentialSampler::SequentialSampler(std::int64_t size) : size_(size) { require_samples(size, "SequentialSampler"); }

std::optional<std::int64_t> SequentialSampler::next() {
  if (place_ == size_) {
    rewind();
    return std::nullopt;
  }
  return place_++;
}

void SequentialSampler::rewind() {
  if (place_ == 0) return;
  place_ = 0;
  ++pass_;
}

Dict SequentialSampler::state_dict() const { return {{"size", size_}, {"pass", pass_}, {"place", place_}}; }

void SequentialSampler::check_state_dict(const Dict& state) const {
  ValueView view(state, "SequentialSampler");
  check_size(view, size_);
  read_in_range(view, "pass", 0, most_passes);
  read_in_range(view, "place", 0, size_);
}

void SequentialSampler::load_state_dict(const Dict& state) {
  check_state_dict(state);
  pass_ = state.at("pass").as_int();
  place_ = state.at("place").as_int();
}

IndexRange inference_range(std::int64_t total, int rank, int world_size) {
  const std::int64_t least = total / world_size, longer = total % world_size;
  const std::int64_t begin = rank * least + std::min<std::int64_t>(rank, longer);
  return {begin, begin + least + (rank < longer ? 1 : 0)};
}

InferenceSampler::InferenceSampler(std::int64_t size, std::shared_ptr<Group> group) : size_(size), group_(std::move(group)) {
  require_samples(size, "InferenceSampler");
}

std::optional<std::int64_t> InferenceSampler::next() {
  const IndexRange range = inference_range(size_, rank_of(group_), world_size_of(group_));
  if (range.begin + place_ >= range.end) {
    place_ = 0;
    return std::nullopt;
  }
  return range.begin + place_++;
}

std::int64_t InferenceSampler::position() const {
  return inference_range(size_, rank_of(group_), world_size_of(group_)).begin + place_;
}

std::optional<std::int64_t> InferenceSampler::indices_per_pass() const {
  const IndexRange range = inference_range(size_, rank_of(group_), world_size_of(group_));
  return range.end - range.begin;
}

Dict InferenceSampler::state_dict() const { return {{"size", size_}, {"world_size", world_size_of(group_)}, {"place", place_}}; }

void InferenceSampler::check_state_dict(const Dict& state) const {
  ValueView view(state, "InferenceSampler");
  check_size(view, size_);
  const std::int64_t world_size = view["world_size"].as_int();
  if (world_size != world_size_of(group_)) {
    view["world_size"].fail(fmt::format("the state is of {} ranks, here are {}", world_size, world_size_of(group_)));
  }
  read_in_range(view, "place", 0, *indices_per_pass());
}

void InferenceSampler::load_state_dict(const Dict& state) {
  check_state_dict(state);
  place_ = state.at("place").as_int();
}

}  // namespace treadle

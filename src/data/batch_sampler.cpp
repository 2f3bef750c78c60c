#include <treadle/base/errors.hpp>
#include <treadle/base/value_view.hpp>
#include <treadle/data/batch_sampler.hpp>

#include <ATen/ops/empty.h>
#include <fmt/format.h>

#include <algorithm>
#include <unordered_map>
#include <utility>

#include "data/group_view.hpp"

namespace treadle {

namespace {

void require(bool good, const char* key, const std::string& message) {
  if (!good) throw ConfigError(message, key);
}

constexpr const char* kKind = "GroupedBatchSampler";

}  // namespace

FixedBatchSampler::FixedBatchSampler(std::unique_ptr<Sampler> sampler, std::int64_t batch_size, bool drop_last)
    : sampler_(std::move(sampler)), batch_size_(batch_size), drop_last_(drop_last) {
  require(sampler_ != nullptr, "sampler", "a FixedBatchSampler needs a sampler");
  require(batch_size >= 1, "batch_size", fmt::format("a batch has at least 1 sample, found {}", batch_size));
  after_last_ = sampler_->state_dict();
}

std::optional<std::vector<SamplePlace>> FixedBatchSampler::next() {
  std::vector<SamplePlace> places;
  places.reserve(static_cast<std::size_t>(batch_size_));
  while (std::cmp_less(places.size(), batch_size_)) {
    const std::int64_t position = sampler_->position();
    const std::optional<std::int64_t> index = sampler_->next();
    if (index) {
      places.push_back({*index, position});
      continue;
    }
    if (places.empty() || drop_last_) {
      after_last_ = sampler_->state_dict();
      return std::nullopt;
    }
    // The sampler has told the end of the pass, which comes behind this batch: it is brought back to where it will tell it again.
    // Walking there twice costs less than asking for the state at every sample.
    sampler_->load_state_dict(after_last_);
    for (std::size_t i = 0; i < places.size(); ++i) sampler_->next();
    break;
  }
  after_last_ = sampler_->state_dict();
  return places;
}

void FixedBatchSampler::rewind() {
  sampler_->rewind();
  after_last_ = sampler_->state_dict();
}

std::optional<std::int64_t> FixedBatchSampler::batches_per_pass() const {
  const std::optional<std::int64_t> samples = sampler_->indices_per_pass();
  if (!samples) return std::nullopt;
  return drop_last_ ? *samples / batch_size_ : (*samples + batch_size_ - 1) / batch_size_;
}

void FixedBatchSampler::load_state_dict(const Dict& state) {
  sampler_->load_state_dict(state);
  after_last_ = sampler_->state_dict();
}

GroupedBatchSampler::GroupedBatchSampler(std::unique_ptr<Sampler> sampler, std::vector<std::int32_t> group_of,
                                         std::int64_t batch_size, std::shared_ptr<Group> group)
    : sampler_(std::move(sampler)), group_of_(std::move(group_of)), batch_size_(batch_size), group_(std::move(group)) {
  require(sampler_ != nullptr, "sampler", "a GroupedBatchSampler needs a sampler");
  require(!group_of_.empty(), "group_of", "a GroupedBatchSampler needs the group of every sample");
  require(batch_size >= 1, "batch_size", fmt::format("a batch has at least 1 sample, found {}", batch_size));
}

std::optional<std::vector<SamplePlace>> GroupedBatchSampler::next() {
  if (!fits()) pool_and_deal();
  std::optional<std::vector<SamplePlace>> own;
  const auto rank = static_cast<std::size_t>(rank_of(group_));
  for (std::size_t i = 0; i < parts_.size(); ++i) {
    std::optional<std::vector<SamplePlace>> batch = fill(parts_[i]);
    if (!batch) {
      parts_.clear();
      return std::nullopt;
    }
    if (i == rank) own = std::move(batch);
  }
  return own;
}

/// Draws until a group is full; nothing when the pass ends before.
std::optional<std::vector<SamplePlace>> GroupedBatchSampler::fill(Part& part) {
  std::unordered_map<std::int32_t, std::int64_t> counts;
  for (const SamplePlace& place : part.waiting) ++counts[group_of(place)];
  for (;;) {
    while (part.dealt.empty()) {
      if (!deal()) return std::nullopt;
    }
    const SamplePlace drawn = part.dealt.front();
    part.dealt.pop_front();
    part.waiting.push_back(drawn);
    const std::int32_t wanted = group_of(drawn);
    if (++counts[wanted] < batch_size_) continue;
    const auto rest = std::stable_partition(part.waiting.begin(), part.waiting.end(),
                                            [&](const SamplePlace& place) { return group_of(place) != wanted; });
    std::vector<SamplePlace> batch(rest, part.waiting.end());
    part.waiting.erase(rest, part.waiting.end());
    return batch;
  }
}

/// One more sample for every rank; false at the end of the pass.
bool GroupedBatchSampler::deal() {
  for (Part& part : parts_) {
    const std::int64_t position = sampler_->position();
    const std::optional<std::int64_t> index = sampler_->next();
    if (!index) return false;
    if (*index < 0 || std::cmp_greater_equal(*index, group_of_.size())) {
      throw ConfigError(
          fmt::format("the sampler drew sample {}, and group_of has the groups of {} samples", *index, group_of_.size()),
          "group_of");
    }
    part.dealt.push_back({*index, position});
  }
  return true;
}

/// False when the parts are those of another number of ranks or a larger batch.
bool GroupedBatchSampler::fits() const {
  if (std::cmp_not_equal(parts_.size(), world_size_of(group_))) return false;
  for (const Part& part : parts_) {
    std::unordered_map<std::int32_t, std::int64_t> counts;
    for (const SamplePlace& place : part.waiting) {
      if (++counts[group_of(place)] >= batch_size_) return false;
    }
  }
  return true;
}

void GroupedBatchSampler::pool_and_deal() {
  std::vector<SamplePlace> pool;
  for (const Part& part : parts_) {
    pool.insert(pool.end(), part.waiting.begin(), part.waiting.end());
    pool.insert(pool.end(), part.dealt.begin(), part.dealt.end());
  }
  parts_.assign(static_cast<std::size_t>(world_size_of(group_)), {});
  for (std::size_t i = 0; i < pool.size(); ++i) parts_[i % parts_.size()].dealt.push_back(pool[i]);
}

void GroupedBatchSampler::rewind() {
  sampler_->rewind();
  parts_.clear();
}

Dict GroupedBatchSampler::state_dict() const {
  std::int64_t total = 0;
  for (const Part& part : parts_) total += static_cast<std::int64_t>(part.waiting.size() + part.dealt.size());
  at::Tensor samples = at::empty({total, 2}, at::kLong);
  at::Tensor counts = at::empty({static_cast<std::int64_t>(parts_.size()), 2}, at::kLong);
  auto* sample = samples.mutable_data_ptr<std::int64_t>();
  auto* count = counts.mutable_data_ptr<std::int64_t>();
  const auto write = [&](const auto& places) {
    *count++ = static_cast<std::int64_t>(places.size());
    for (const SamplePlace& place : places) {
      *sample++ = place.index;
      *sample++ = place.position;
    }
  };
  for (const Part& part : parts_) {
    write(part.waiting);
    write(part.dealt);
  }
  return {{"kind", kKind}, {"sampler", sampler_->state_dict()}, {"samples", samples}, {"counts", counts}};
}

namespace {

/// The numbers of a tensor of two columns.
at::Tensor read_pairs(const ValueView& view, const char* key) {
  const at::Tensor& tensor = view[key].as_tensor();
  if (tensor.dim() != 2 || tensor.size(1) != 2 || tensor.scalar_type() != at::kLong || !tensor.is_cpu())
    view[key].fail(fmt::format("expected an int64 tensor of shape (n, 2), found {}", describe(tensor)));
  return tensor.contiguous();
}

}  // namespace

void GroupedBatchSampler::check_state_dict(const Dict& state) const {
  const ValueView view(state, kKind);
  if (view["kind"].as_string() != kKind) view["kind"].fail(fmt::format("the state is of a {}", view["kind"].as_string()));
  sampler_->check_state_dict(view["sampler"].as_dict());
  const at::Tensor samples = read_pairs(view, "samples"), counts = read_pairs(view, "counts");
  const auto* sample = samples.const_data_ptr<std::int64_t>();
  for (std::int64_t i = 0; i < samples.size(0); ++i) {
    if (sample[2 * i] < 0 || std::cmp_greater_equal(sample[2 * i], group_of_.size()) || sample[2 * i + 1] < 0)
      view["samples"].fail(fmt::format("there is no sample {} in a data set of {}", sample[2 * i], group_of_.size()));
  }
  const auto* count = counts.const_data_ptr<std::int64_t>();
  std::int64_t rest = samples.size(0);
  for (std::int64_t i = 0; i < counts.numel(); ++i) {
    if (count[i] < 0 || count[i] > rest) view["counts"].fail("the counts are not those of the samples");
    rest -= count[i];
  }
  if (rest != 0) view["counts"].fail("the counts are not those of the samples");
}

void GroupedBatchSampler::load_state_dict(const Dict& state) {
  check_state_dict(state);
  sampler_->load_state_dict(state.at("sampler").as_dict());
  const at::Tensor samples = state.at("samples").as_tensor().contiguous(), counts = state.at("counts").as_tensor().contiguous();
  const auto* sample = samples.const_data_ptr<std::int64_t>();
  const auto* count = counts.const_data_ptr<std::int64_t>();
  const auto read = [&](auto& places) {
    for (std::int64_t left = *count++; left > 0; --left, sample += 2) places.push_back({sample[0], sample[1]});
  };
  parts_.assign(static_cast<std::size_t>(counts.size(0)), {});
  for (Part& part : parts_) {
    read(part.waiting);
    read(part.dealt);
  }
}

std::optional<std::vector<std::int32_t>> aspect_ratio_groups(const Dataset& dataset) {
  std::vector<std::int32_t> groups;
  groups.reserve(static_cast<std::size_t>(dataset.size()));
  for (std::int64_t index = 0; index < dataset.size(); ++index) {
    const std::optional<ImageSize> size = dataset.image_size(index);
    if (!size) return std::nullopt;
    groups.push_back(size->width > size->height ? 0 : 1);
  }
  return groups;
}

}  // namespace treadle

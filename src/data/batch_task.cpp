#include "data/batch_task.hpp"

#include <base/exception_text.hpp>

#include <fmt/format.h>

namespace treadle {

void BatchTask::run(int worker) noexcept {
  times_.worker = worker;
  times_.begun = times_.fetched = Clock::now();
  try {
    batch_ = make();
    if (const auto device = recipe_.options.device) batch_ = copy_to_device(batch_, *device);
  } catch (...) {
    error_ = std::current_exception();
  }
  times_.done = Clock::now();
}

Batch BatchTask::take() {
  if (error_) std::rethrow_exception(error_);
  return std::move(batch_);
}

Batch BatchTask::make() {
  std::vector<std::int64_t> indices;
  indices.reserve(places_.size());
  for (const SamplePlace& place : places_) indices.push_back(place.index);
  if (std::optional<Dict> fields = fetch_together(indices)) {
    times_.fetched = Clock::now();
    return Batch(std::move(*fields), std::move(indices));
  }
  return from_samples(std::move(indices));
}

Batch BatchTask::from_samples(std::vector<std::int64_t> indices) {
  std::vector<Sample> samples;
  samples.reserve(places_.size());
  indices.clear();
  auto before = Clock::now();
  for (const SamplePlace& place : places_) {
    if (cancelled_.load(std::memory_order_relaxed)) return {};
    try {
      samples.push_back(fetch(place));
      indices.push_back(place.index);
    } catch (const SampleError& error) {
      if (recipe_.options.max_skipped == 0) throw;
      skipped_.emplace_back(error.what());
      const bool last = skipped_.size() == places_.size();
      if (last) {
        throw SampleError(fmt::format("no sample of a batch of {} could be made; the last: {}", places_.size(), error.what()),
                          error.index(), error.cause());
      }
    }
    const auto now = Clock::now();
    const double seconds = std::chrono::duration<double>(now - before).count();
    if (seconds > times_.slowest_seconds) {
      times_.slowest_seconds = seconds;
      times_.slowest_index = place.index;
    }
    before = now;
  }
  times_.fetched = before;
  return Batch(join(std::move(samples)), std::move(indices));
}

Dict BatchTask::join(std::vector<Sample> samples) const {
  const Collate& own = recipe_.options.collate;
  return own ? own(std::move(samples)) : collate_into(std::move(samples), &recipe_.memory);
}

std::optional<Dict> BatchTask::fetch_together(const std::vector<std::int64_t>& indices) const {
  if (recipe_.options.transform || recipe_.options.collate) return std::nullopt;
  try {
    return recipe_.dataset->get_batch(indices, &recipe_.memory);
  } catch (const std::exception&) {
    return std::nullopt;  // one by one it fails again, and then the sample is known
  }
}

Sample BatchTask::fetch(const SamplePlace& place) {
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

}  // namespace treadle

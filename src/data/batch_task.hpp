#pragma once

#include <treadle/data/batch_sampler.hpp>
#include <treadle/data/data_loader.hpp>

#include <atomic>
#include <chrono>
#include <exception>
#include <memory>
#include <string>
#include <vector>

#include "data/loader_workers.hpp"

namespace treadle {

/// What all batches of a loader are made from. Immutable, but for the memory, which any thread may use.
struct Recipe {
  std::shared_ptr<const Dataset> dataset;
  DataLoaderOptions options;
  mutable BatchMemory memory;
};

/// One batch: first where it comes from, later its content or what went wrong with it.
class BatchTask final : public LoaderWorkers::Task {
 public:
  using Clock = std::chrono::steady_clock;

  /// `recipe` is borrowed.
  BatchTask(const Recipe& recipe, std::uint64_t sample_seed, std::vector<SamplePlace> places, Dict sampler_after)
      : recipe_(recipe), sample_seed_(sample_seed), places_(std::move(places)), sampler_after_(std::move(sampler_after)) {}

  void run(int worker) noexcept override;
  void cancel() noexcept override { cancelled_.store(true, std::memory_order_relaxed); }

  /// After `run`: the batch, or the exception that stands for it.
  Batch take();
  /// The state of the sampler once this batch is drawn.
  Dict& sampler_after() noexcept { return sampler_after_; }
  /// After `run`: what was left out, one text for each sample.
  const std::vector<std::string>& skipped() const noexcept { return skipped_; }

  /// After `run`: who made it, and when it began, had its samples, and was done.
  struct Times {
    int worker = -1;
    Clock::time_point begun{}, fetched{}, done{};
    std::int64_t slowest_index = -1;
    double slowest_seconds = 0;
  };
  const Times& times() const noexcept { return times_; }

 private:
  Batch make();
  Batch from_samples(std::vector<std::int64_t> indices);
  std::optional<Dict> fetch_together(const std::vector<std::int64_t>& indices) const;
  Sample fetch(const SamplePlace& place);
  Dict join(std::vector<Sample> samples) const;

  const Recipe& recipe_;
  std::uint64_t sample_seed_;
  std::vector<SamplePlace> places_;
  Dict sampler_after_;
  Batch batch_;
  std::vector<std::string> skipped_;
  std::exception_ptr error_;
  Times times_;
  std::atomic<bool> cancelled_ = false;
};

/// Copies to the device of a loader and waits for the copy, on a queue of its own where the device has queues.
Batch copy_to_device(const Batch& batch, c10::Device device);
/// Tells the device's allocator that the calling thread's queue uses a batch that was copied on another.
void use_on_current_stream(const Batch& batch, c10::Device device);
/// True when copies to `device` are quicker from page-locked memory.
bool wants_pinned_memory(c10::Device device);

}  // namespace treadle

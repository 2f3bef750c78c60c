#pragma once

#include <treadle/base/batch.hpp>
#include <treadle/base/stateful.hpp>

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <ranges>
#include <string>
#include <utility>
#include <vector>

namespace treadle {

/// What callers of `next` waited for, in seconds.
struct BatchWait {
  double decode = 0;   ///< until the samples of its batch were made
  double collate = 0;  ///< from then on until they were joined and copied to their device
};

/// Where a trainer or an inference loop draws its batches from: a DataLoader, or anything of the user's made into one by the
/// functions below. Loop thread only.
///
/// Its state says which batches the caller has been given, whatever has been prepared ahead, so that the first batch after a load
/// is the one that would have come next.
class BatchSource : public Stateful {
 public:
  /// The next batch, or nothing at the end of a pass; the call after that begins a new pass. An infinite source never ends one.
  virtual std::optional<Batch> next() = 0;
  /// Leaves the pass under way: the next batch is the first of a new one. An infinite source begins again from its first batch.
  virtual void rewind() = 0;
  /// How many batches one whole pass has; nothing when that is infinite or unknown.
  virtual std::optional<std::int64_t> batches_per_pass() const { return std::nullopt; }
  /// How many samples one epoch has, over all ranks; nothing when that is unknown.
  virtual std::optional<std::int64_t> samples_per_epoch() const { return std::nullopt; }
  /// What calls of `next` have waited for so far, in all; nothing from a source that does not know.
  virtual std::optional<BatchWait> waited() const { return std::nullopt; }
  /// What messages call this source: "fashion_mnist_train".
  virtual std::string name() const { return "batches"; }
};

/// What `make_batch_source` may be told about a user's function; everything may be left out.
struct BatchFunctionOptions {
  std::string name = "batches";
  std::optional<std::int64_t> batches_per_pass{};
  /// Begins a new pass. Without it `rewind` draws the rest of the pass and throws it away, which never ends when a pass does not.
  std::function<void()> rewind{};
  /// State for checkpoints. Without it nothing is saved, and a load warns that the order of the data starts anew.
  StatefulFunctions::Functions state{};
};

/// A source that calls `next`, which keeps the contract of BatchSource::next. Throws ConfigError when `next` is empty.
std::unique_ptr<BatchSource> make_batch_source(std::function<std::optional<Batch>()> next, BatchFunctionOptions options = {});

/// A source that hands out `batches` in order, pass after pass; the tensors are shared with every pass. State: the place in the
/// pass.
std::unique_ptr<BatchSource> make_batch_source(std::vector<Batch> batches, std::string name = "batches");

/// A source over a range that can be walked again and again, such as a `torch::data` loader: `to_batch` makes a Batch of an
/// element. The range is borrowed and must outlive the source. State: as `options` say; a `rewind` of theirs is called before the
/// range is walked anew.
///
///     auto source = make_batch_source(*loader, [](auto& example) {
///       return Batch({{"image", example.data}, {"label", example.target}});
///     });
template <class Range, class ToBatch>
  requires requires(Range& range, ToBatch to_batch) { Batch(to_batch(*std::begin(range))); }
std::unique_ptr<BatchSource> make_batch_source(Range& range, ToBatch to_batch, BatchFunctionOptions options = {}) {
  using Iterator = decltype(std::begin(range));
  auto place = std::make_shared<std::optional<Iterator>>();
  options.rewind = [place, own = std::move(options.rewind)] {
    place->reset();
    if (own) own();
  };
  auto next = [&range, place, to_batch = std::move(to_batch)]() mutable -> std::optional<Batch> {
    if (*place) {
      ++**place;
    } else {
      place->emplace(std::begin(range));
    }
    if (**place == std::end(range)) {
      place->reset();
      return std::nullopt;
    }
    return Batch(to_batch(***place));
  };
  return make_batch_source(std::function<std::optional<Batch>()>(std::move(next)), std::move(options));
}

}  // namespace treadle

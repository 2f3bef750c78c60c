#pragma once

#include <treadle/data/batch_source.hpp>
#include <treadle/data/data_loader.hpp>

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>

namespace treadle {

/// Samples that come one after the other and cannot be asked for by index: a log, a socket, a simulator. One thread at a time.
///
/// The state says where the next sample comes from (an offset in a file, a counter), so that a load costs no reading; it is asked
/// for once a batch. What `state_dict` returned is not changed by later calls of `next`.
class SampleStream : public Stateful {
 public:
  /// The next sample, or nothing at the end of a pass; the call after that begins a new pass.
  virtual std::optional<Sample> next() = 0;
  /// Leaves the pass under way.
  virtual void rewind() = 0;
};

struct StreamLoaderOptions {
  std::int64_t batch_size = 1;     ///< samples per batch of this rank; at least 1
  int prefetch = 4;                ///< batches read ahead by a thread; 0 reads in `next` itself
  bool drop_last = false;          ///< leave out a last batch of a pass that is not full on every rank; a rest of fewer samples
                                   ///< than there are ranks is left out all the same
  std::uint64_t seed = 0;          ///< of the samples' randomness
  Transform transform{};           ///< applied to each sample; may be empty
  Collate collate{};               ///< empty: `treadle::collate` into reused memory
  std::shared_ptr<Group> group{};  ///< every rank reads the whole stream and keeps every world_size-th sample; null: all of them
  std::string name = "stream";     ///< for messages
};
void validate(const StreamLoaderOptions& options);

/// Batches of a stream, read ahead of the caller by one thread. Loop thread only. The ids of a batch are the positions of its
/// samples in the common order, counted from the start of the run; a sample's randomness is Rng(s, position), where s is derived
/// from the seed. `next` throws SampleError with that position when the stream or the transform fails, and then stands where it
/// stood before the call. The destructor, `rewind` and loading or checking a state wait until a call of the stream's `next` under
/// way returns.
///
/// State: {"stream", "position", "end_follows", "seed"} behind the last batch that `next` returned, whatever was read ahead: the
/// same on all ranks, and good for any number of them, since all read whole global batches. Throws ConfigError when `stream` is
/// null or an option is out of range.
std::unique_ptr<BatchSource> make_batch_source(std::unique_ptr<SampleStream> stream, StreamLoaderOptions options);

/// A stream made of functions. `rewind` and `state` are needed, since a stream without them could not be resumed: ConfigError.
struct SampleStreamFunctions {
  std::function<std::optional<Sample>()> next{};
  std::function<void()> rewind{};
  StatefulFunctions::Functions state{};
};
std::unique_ptr<SampleStream> make_sample_stream(SampleStreamFunctions functions);

}  // namespace treadle

#pragma once

#include <treadle/data/batch_source.hpp>

#include <cstdint>
#include <optional>
#include <vector>

namespace treadle {

/// The work of one worker of a DataLoader, in seconds.
struct WorkerTimes {
  std::int64_t batches = 0;
  double decode = 0;   ///< making samples
  double collate = 0;  ///< joining them and copying to the device
};

/// What the batches of a DataLoader cost, from its first on. A value type.
struct LoaderTimes {
  std::int64_t batches = 0;
  BatchWait waited{};                  ///< by the caller, in all
  int workers_now = 0;                 ///< threads that make batches; 0: the caller makes them
  int last_worker = 0;                 ///< who made the last batch: a place in `workers`
  std::vector<WorkerTimes> workers{};  ///< as far as they made a batch; none before the first
  std::int64_t slowest_sample = -1;    ///< the index that took longest, -1 when samples are not made one by one
  double slowest_sample_seconds = 0;

  /// The worker with the most seconds a batch; nothing before the first batch.
  std::optional<std::size_t> slowest_worker() const;
};

}  // namespace treadle

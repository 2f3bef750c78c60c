#pragma once

#include <treadle/data/data_loader.hpp>

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <utility>
#include <vector>

namespace treadle {

/// What `treadle data` knows of one data set.
struct DataReport {
  std::string name;
  std::int64_t samples = 0;
  struct Class {
    std::int64_t label;
    std::string name;  ///< empty when classes have no names
    std::int64_t samples;
  };
  std::vector<Class> classes{};  ///< by label; empty when samples do not know theirs
  /// (height, width) → images; empty when sizes are unknown.
  std::map<std::pair<std::int64_t, std::int64_t>, std::int64_t> sizes{};
};

/// Goes through a data set without decoding it. A class of `names` without a sample is listed too.
DataReport describe_dataset(const std::string& name, const Dataset& dataset, const std::vector<std::string>& names);

/// How quick a loader is with one number of workers.
struct LoaderSpeed {
  int workers = 0;
  double images_per_second = 0;
  BatchWait wait_per_batch{};        ///< of the caller, in seconds
  WorkerTimes slowest{};             ///< the worker with the most seconds a batch
  std::int64_t slowest_sample = -1;  ///< index, -1 when unknown
  double slowest_sample_seconds = 0;
};

/// Draws batches for about `seconds`, after a first one that is not counted.
LoaderSpeed measure_loader(DataLoader& loader, int workers, double seconds);

}  // namespace treadle

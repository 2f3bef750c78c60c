#include <treadle/data/loader_times.hpp>

namespace treadle {

std::optional<std::size_t> LoaderTimes::slowest_worker() const {
  std::optional<std::size_t> slowest;
  double most = -1;
  for (std::size_t i = 0; i < workers.size(); ++i) {
    if (workers[i].batches == 0) continue;
    const double mean = (workers[i].decode + workers[i].collate) / static_cast<double>(workers[i].batches);
    if (mean > most) {
      most = mean;
      slowest = i;
    }
  }
  return slowest;
}

}  // namespace treadle

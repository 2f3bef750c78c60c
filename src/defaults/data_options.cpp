// What the config says to the room `data`.
#include <treadle/defaults/options.hpp>

#include <fmt/format.h>

namespace treadle {
namespace {

Transform train_transform(const Config& config) {
  const std::string& flip = config.get_string("INPUT.RANDOM_FLIP");
  if (flip == "none") return nullptr;
  if (flip == "horizontal") return random_flip();
  config.fail("INPUT.RANDOM_FLIP", "expected \"horizontal\" or \"none\"");
}

int num_workers(const Config& config) {
  const std::int64_t workers = config.get_int("DATALOADER.NUM_WORKERS");
  if (workers < 0 || workers > 1024) config.fail("DATALOADER.NUM_WORKERS", "expected 0 to 1024 threads");
  return static_cast<int>(workers);
}

std::int64_t batch_size(const Config& config) {
  const std::int64_t size = config.get_int("SOLVER.IMS_PER_BATCH");
  if (size < 1) config.fail("SOLVER.IMS_PER_BATCH", "at least 1 is needed");
  return size;
}

}  // namespace

TrainLoaderOptions train_loader_options(const Config& config) {
  TrainLoaderOptions options;
  options.total_batch_size = batch_size(config);
  options.num_workers = num_workers(config);
  options.transform = train_transform(config);
  if (const std::int64_t seed = config.get_int("SEED"); seed >= 0) options.seed = seed;
  return options;
}

TestLoaderOptions test_loader_options(const Config& config) {
  TestLoaderOptions options;
  options.batch_size = batch_size(config);
  options.num_workers = num_workers(config);
  return options;
}

DatasetOptions dataset_options(const Config& config) { return {.root = config.get_string("TREADLE.DATA_DIR")}; }

}  // namespace treadle

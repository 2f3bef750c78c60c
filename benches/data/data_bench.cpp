// What a batch costs: DataLoader against torch.utils.data.DataLoader of the same number of workers, taking turns in one run, and
// what it costs alone: handing over a batch that is ready, resuming far into a run, memory over many batches.
// The photos need Pillow in that Python. What is absent is said and left out.

#include <benches/python_side.hpp>
#include <benches/report.hpp>
#include <benches/timing.hpp>
#include <treadle/data/data_loader.hpp>
#include <treadle/data/image_folder.hpp>
#include <treadle/data/training_samplers.hpp>

#include <ATen/Parallel.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/rand.h>
#include <fmt/format.h>
#include <unistd.h>

#include <cmath>
#include <filesystem>
#include <fstream>
#include <thread>

#include "tests/support/encode_jpeg.hpp"
#include "tests/support/temporary_folder.hpp"

namespace {

using namespace treadle;

constexpr std::int64_t kBatch = 32;

/// Seconds a batch over one pass, the first batch not counted, as on the other side.
double seconds_per_batch(DataLoader& loader) {
  loader.next();
  std::int64_t count = 0;
  const double time = seconds([&] {
    while (loader.next()) ++count;
  });
  return time / static_cast<double>(count);
}

std::unique_ptr<DataLoader> make_loader(std::shared_ptr<const Dataset> dataset, int workers, Transform transform = {}) {
  auto sampler = std::make_unique<SequentialSampler>(dataset->size());
  return std::make_unique<DataLoader>(
      std::move(dataset), std::move(sampler),
      DataLoaderOptions{.batch_size = kBatch, .num_workers = workers, .drop_last = true, .transform = std::move(transform)});
}

void compare(const std::string& what, DataLoader& loader, PythonSide& python, const std::string& line, double asked) {
  seconds_per_batch(loader);
  std::vector<double> ours, theirs;
  for (int round = 0; round < rounds(7); ++round) {
    ours.push_back(seconds_per_batch(loader));
    if (const auto time = python.seconds(line)) theirs.push_back(*time);
  }
  if (theirs.empty()) {
    report({.what = what, .unit = "us", .ours = 1e6 * median(ours)});
    remark("Python's side of it is absent");
    return;
  }
  report({.what = what,
          .unit = "us",
          .ours = 1e6 * median(ours),
          .peer = "Python DataLoader",
          .theirs = 1e6 * median(theirs),
          .asked = Asked::faster_at_least(asked)});
}

void small_batches(PythonSide& python) {
  constexpr std::int64_t batches = 400;
  const auto rows = std::make_shared<TensorDataset>(
      Dict{{"x", at::rand({kBatch * batches, 3, 8, 8})}, {"label", at::arange(kBatch * batches)}});
  const auto one_by_one = std::make_shared<MapDataset>(rows, [](Sample sample, Rng&) { return sample; });
  for (int workers : {0, 1, 2}) {
    const std::string line = fmt::format("small {} {}", batches, workers);
    const double asked = workers == 0 ? 1 : 10;
    compare(fmt::format("32 x 3x8x8, {} workers", workers), *make_loader(rows, workers), python, line, asked);
    compare(fmt::format("32 x 3x8x8, {} workers, sample by sample", workers), *make_loader(one_by_one, workers), python, line,
            asked);
  }
}

void large_batches(PythonSide& python) {
  constexpr std::int64_t batches = 40;
  const at::Tensor rows = at::rand({64, 3, 224, 224});
  class Rows final : public Dataset {
   public:
    explicit Rows(at::Tensor tensor) : tensor_(std::move(tensor)) {}
    std::int64_t size() const override { return kBatch * batches; }
    Sample get(std::int64_t index, Rng&) const override {
      return {{"x", tensor_.select(0, index % tensor_.size(0))}, {"label", index}};
    }

   private:
    at::Tensor tensor_;
  };
  compare("19 MB batch, 1 worker", *make_loader(std::make_shared<Rows>(rows), 1), python, fmt::format("large {}", batches), 3);
}

/// Photos of this size: soft shapes with noise, which JPEG packs about as tightly as real ones.
void write_photos(const std::filesystem::path& folder, std::int64_t height, std::int64_t width) {
  std::filesystem::create_directories(folder / "class");
  Rng rng(1);
  for (int number = 0; number < 64; ++number) {
    Image image(height, width, {0, 0, 0});
    const double a = rng.uniform(10, 60), b = rng.uniform(10, 60);
    for (std::int64_t row = 0; row < height; ++row) {
      for (std::int64_t column = 0; column < width; ++column) {
        const double wave = 60 * std::sin(static_cast<double>(row) / a) + 50 * std::cos(static_cast<double>(column) / b);
        const auto noise = static_cast<double>(rng.next() % 24);
        for (std::int64_t c = 0; c < 3; ++c)
          image.at(row, column)[c] = static_cast<std::uint8_t>(120 + wave * (1 - 0.2 * static_cast<double>(c)) - noise);
      }
    }
    std::ofstream(folder / "class" / fmt::format("{:03}.jpg", number), std::ios::binary) << encode_jpeg(image, false, 88);
  }
}

void photos(PythonSide& python) {
  const Transform augment = compose({resize_shortest_edge({.sizes = {256}}), random_crop({.height = 224, .width = 224}),
                                     random_flip(), normalize({.mean = {123.7, 116.3, 103.5}, .std = {58.4, 57.1, 57.4}})});
  for (const auto& [height, width] : {std::pair(375, 500), std::pair(960, 1280)}) {
    if (quick() && height > 375) continue;  // a minute on two cores
    const TemporaryFolder folder;
    write_photos(folder.path(), height, width);
    for (const std::int64_t least_side : {std::int64_t{0}, std::int64_t{256}}) {
      const int repeats = quick() ? 2 : 3;
      const auto once = std::make_shared<ImageFolder>(
          ImageFolderOptions{.root = folder.path(), .decode = {.mode = ColourMode::rgb, .least_side = least_side}});
      const auto dataset = std::make_shared<ConcatDataset>(std::vector<std::shared_ptr<const Dataset>>(repeats, once));
      compare(fmt::format("JPEG {}x{}, augmented, 2 workers{}", width, height, least_side > 0 ? ", scaled decoding" : ""),
              *make_loader(dataset, 2, augment), python, fmt::format("photos 0 {} 2 {}", folder.path().string(), repeats), 2);
    }
  }
}

void hand_off() {
  const auto rows = std::make_shared<TensorDataset>(Dict{{"x", at::rand({4096, 3, 8, 8})}});
  DataLoader loader(rows, std::make_unique<TrainingSampler>(4096, TrainingSamplerOptions{.seed = 1}, nullptr),
                    {.batch_size = kBatch, .num_workers = 1, .prefetch = 2});
  std::vector<double> times;
  for (int i = 0; i < 2000; ++i) {
    std::this_thread::sleep_for(std::chrono::microseconds(300));  // the next batch is ready
    times.push_back(seconds([&] { loader.next(); }));
  }
  report({.what = "hand-off of a ready batch", .unit = "us", .ours = 1e6 * median(times), .asked = Asked::at_most(5)});
}

void resume() {
  constexpr std::int64_t samples = 60'000;
  const auto rows = std::make_shared<TensorDataset>(Dict{{"x", at::arange(samples)}});
  const auto make = [&] {
    return std::make_unique<DataLoader>(rows,
                                        std::make_unique<TrainingSampler>(samples, TrainingSamplerOptions{.seed = 1}, nullptr),
                                        DataLoaderOptions{.batch_size = kBatch, .num_workers = 0});
  };
  TrainingSampler sampler(samples, TrainingSamplerOptions{.seed = 1}, nullptr);
  std::vector<Dict> states;
  for (const std::int64_t iteration : {10, 1'000'000}) {
    while (sampler.position() < iteration * kBatch) sampler.next();
    states.push_back(Dict{{"sampler", sampler.state_dict()}, {"seed", 0}});
  }
  std::vector<double> times[2];
  for (int round = 0; round < rounds(31); ++round) {
    for (std::size_t i : {0u, 1u}) {
      const auto loader = make();
      times[i].push_back(seconds([&] {
        loader->load_state_dict(states[i]);
        loader->next();
      }));
    }
  }
  report({.what = "resume and first batch of 60000 samples at iteration 10^6",
          .unit = "ms",
          .ours = 1e3 * median(times[1]),
          .peer = "at iteration 10",
          .theirs = 1e3 * median(times[0]),
          .asked = Asked::ratio_at_most(1.1)});
}

double resident_mib() {
  std::ifstream statm("/proc/self/statm");
  std::int64_t total = 0, resident = 0;
  statm >> total >> resident;
  return static_cast<double>(resident * sysconf(_SC_PAGESIZE)) / (1 << 20);
}

void memory() {
  const std::int64_t batches = quick() ? 10'000 : 100'000;
  const auto rows = std::make_shared<TensorDataset>(Dict{{"x", at::rand({4096, 3, 32, 32})}});
  DataLoader loader(rows, std::make_unique<TrainingSampler>(4096, TrainingSamplerOptions{.seed = 1}, nullptr),
                    {.batch_size = kBatch, .num_workers = 2, .prefetch = 4});
  double early = 0;
  for (std::int64_t i = 0; i < batches; ++i) {
    loader.next();
    if (i == batches / 100) early = resident_mib();
  }
  report({.what = fmt::format("resident after {} batches of 0.38 MiB", batches),
          .unit = "MiB",
          .ours = resident_mib(),
          .peer = "after 1 % of them",
          .theirs = early,
          .asked = Asked::more_at_most(6 * 0.375)});
}

}  // namespace

int main() {
  PythonSide python("data/python_loader.py");
  at::set_num_threads(1);
  small_batches(python);
  large_batches(python);
  photos(python);
  hand_off();
  resume();
  memory();
  return 0;
}

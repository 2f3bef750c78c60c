#include <app/data_report.hpp>

#include <algorithm>
#include <chrono>

namespace treadle {

DataReport describe_dataset(const std::string& name, const Dataset& dataset, const std::vector<std::string>& names) {
  DataReport report{.name = name, .samples = dataset.size()};
  std::map<std::int64_t, std::int64_t> counts;
  for (std::size_t label = 0; label < names.size(); ++label) counts[static_cast<std::int64_t>(label)] = 0;
  bool labelled = dataset.size() > 0, sized = dataset.size() > 0;
  for (std::int64_t index = 0; index < dataset.size() && (labelled || sized); ++index) {
    if (labelled) {
      const std::optional<std::int64_t> label = dataset.label(index);
      labelled = label.has_value();
      if (label) ++counts[*label];
    }
    if (sized) {
      const std::optional<ImageSize> size = dataset.image_size(index);
      sized = size.has_value();
      if (size) ++report.sizes[{size->height, size->width}];
    }
  }
  if (!sized) report.sizes.clear();
  if (!labelled) return report;
  for (const auto& [label, samples] : counts) {
    const bool named = label >= 0 && static_cast<std::size_t>(label) < names.size();
    report.classes.push_back({label, named ? names[static_cast<std::size_t>(label)] : "", samples});
  }
  return report;
}

LoaderSpeed measure_loader(DataLoader& loader, int workers, double seconds) {
  using Clock = std::chrono::steady_clock;
  const auto since = [](Clock::time_point start) { return std::chrono::duration<double>(Clock::now() - start).count(); };
  const auto draw = [&] {
    std::optional<Batch> batch = loader.next();
    return batch ? batch->size() : 0;
  };
  draw();  // starts the threads
  const LoaderTimes before = loader.times();
  std::int64_t images = 0;
  const Clock::time_point start = Clock::now();
  do {
    images += draw();
  } while (since(start) < seconds);
  const double elapsed = since(start);
  const LoaderTimes& times = loader.times();
  const auto batches = static_cast<double>(std::max<std::int64_t>(1, times.batches - before.batches));
  LoaderSpeed speed{.workers = workers, .images_per_second = static_cast<double>(images) / elapsed};
  speed.wait_per_batch = {.decode = (times.waited.decode - before.waited.decode) / batches,
                          .collate = (times.waited.collate - before.waited.collate) / batches};
  if (const auto slowest = times.slowest_worker()) speed.slowest = times.workers[*slowest];
  speed.slowest_sample = times.slowest_sample;
  speed.slowest_sample_seconds = times.slowest_sample_seconds;
  return speed;
}

}  // namespace treadle

#include <app/data_command.hpp>
#include <app/data_report.hpp>
#include <app/terminal.hpp>
#include <app/value_json.hpp>
#include <treadle/base/errors.hpp>
#include <treadle/data/dataset_catalog.hpp>
#include <treadle/defaults/options.hpp>

#include <fmt/format.h>
#include <CLI/CLI.hpp>
#include <nlohmann/json.hpp>

#include <algorithm>
#include <functional>
#include <optional>
#include <thread>

namespace treadle {
namespace {

using Json = nlohmann::ordered_json;

struct OpenSet {
  std::string name;
  std::shared_ptr<const Dataset> dataset;
};

std::vector<OpenSet> open_all(const Config& config, const char* key) {
  std::vector<OpenSet> sets;
  for (const std::string& name : config.get_strings(key)) {
    try {
      find_dataset(name);
    } catch (const ConfigError& error) {
      config.fail(key, error.what());
    }
    sets.push_back({name, make_dataset(name, dataset_options(config))});
  }
  return sets;
}

std::string sizes_table(const DataReport& report) {
  constexpr std::size_t few = 8;
  if (report.sizes.empty()) return "  image sizes: unknown\n";
  std::string text;
  if (report.sizes.size() <= few) {
    for (const auto& [size, images] : report.sizes)
      text += fmt::format("  {:>9} images of {} x {} (height x width)\n", images, size.first, size.second);
    return text;
  }
  std::vector<std::int64_t> heights, widths;
  std::int64_t wide = 0;
  for (const auto& [size, images] : report.sizes) {
    heights.insert(heights.end(), static_cast<std::size_t>(images), size.first);
    widths.insert(widths.end(), static_cast<std::size_t>(images), size.second);
    if (size.second > size.first) wide += images;
  }
  const auto line = [](const char* what, std::vector<std::int64_t>& sides) {
    std::sort(sides.begin(), sides.end());
    return fmt::format("  {:<7} {} to {} pixels, {} in the middle\n", what, sides.front(), sides.back(), sides[sides.size() / 2]);
  };
  return line("height", heights) + line("width", widths) +
         fmt::format("  {} images are wider than high, {} are not\n", wide, report.samples - wide);
}

std::string table_of(const DataReport& report, const char* key) {
  std::string text = fmt::format("{}: {} samples ({})\n", report.name, report.samples, key);
  std::size_t width = 5;
  for (const DataReport::Class& item : report.classes) width = std::max(width, printable(item.name).size());
  if (!report.classes.empty())
    text += fmt::format("  {:>5}  {:<{}}  {:>9}  {:>6}\n", "label", "class", width, "samples", "share");
  for (const DataReport::Class& item : report.classes) {
    text += fmt::format("  {:>5}  {:<{}}  {:>9}  {:>5.1f} %\n", item.label, printable(item.name), width, item.samples,
                        100.0 * static_cast<double>(item.samples) / static_cast<double>(report.samples));
  }
  return text + sizes_table(report);
}

Json json_of(const DataReport& report) {
  Json classes = Json::array(), sizes = Json::array();
  for (const DataReport::Class& item : report.classes)
    classes.push_back({{"label", item.label}, {"name", item.name}, {"samples", item.samples}});
  for (const auto& [size, images] : report.sizes)
    sizes.push_back({{"height", size.first}, {"width", size.second}, {"images", images}});
  return {{"name", report.name}, {"samples", report.samples}, {"classes", classes}, {"image_sizes", sizes}};
}

Json json_of(const LoaderSpeed& speed) {
  return {{"workers", speed.workers},
          {"images_per_second", speed.images_per_second},
          {"wait_decode_seconds", speed.wait_per_batch.decode},
          {"wait_collate_seconds", speed.wait_per_batch.collate},
          {"slowest_sample", speed.slowest_sample},
          {"slowest_sample_seconds", speed.slowest_sample_seconds}};
}

std::string line_of(const LoaderSpeed& speed) {
  const auto batches = static_cast<double>(std::max<std::int64_t>(1, speed.slowest.batches));
  std::string text = fmt::format("{:>7}  {:>9.0f}  {:>9.2f}  {:>9.2f}  {:>9.2f}", speed.workers, speed.images_per_second,
                                 1e3 * speed.wait_per_batch.decode, 1e3 * speed.wait_per_batch.collate,
                                 1e3 * (speed.slowest.decode + speed.slowest.collate) / batches);
  if (speed.slowest_sample >= 0)
    text += fmt::format("  sample {}, {:.2f} ms", speed.slowest_sample, 1e3 * speed.slowest_sample_seconds);
  return text + "\n";
}

/// The training loader of the config, of a process alone, with each number of workers in turn.
void bench(const Config& config, const std::vector<OpenSet>& sets, const DataArguments& arguments,
           const std::function<void(const LoaderSpeed&)>& tell) {
  if (sets.empty()) config.fail("DATASETS.TRAIN", "there is nothing to measure");
  std::vector<std::shared_ptr<const Dataset>> parts;
  for (const OpenSet& set : sets) parts.push_back(set.dataset);
  const std::shared_ptr<const Dataset> dataset =
      parts.size() == 1 ? parts.front() : std::make_shared<ConcatDataset>(std::move(parts));
  TrainLoaderOptions options = train_loader_options(config);
  options.name = sets.front().name;
  options.transform = train_transform(config, *dataset);
  options.seed = options.seed.value_or(0);
  const int processors = static_cast<int>(std::max(1u, std::thread::hardware_concurrency()));
  const int most = arguments.max_workers > 0 ? arguments.max_workers : processors;
  for (int workers = 0; workers <= most; ++workers) {
    options.num_workers = workers;
    const auto loader = build_train_loader(dataset, options, nullptr);
    tell(measure_loader(*loader, workers, arguments.seconds));
  }
}

}  // namespace

CLI::App* add_data_command(CLI::App& app, DataArguments& arguments) {
  CLI::App* command = app.add_subcommand("data", "Show what is in the data sets of a config, and how quickly they can be read.");
  add_config_arguments(*command, arguments);
  command->add_flag("--bench", arguments.bench, "measure the training loader with 0, 1, … workers");
  command->add_flag("--json", arguments.json, "one JSON object instead of tables");
  command->add_option("--max-workers", arguments.max_workers, "of --bench; 0 for as many as there are processors")
      ->type_name("N")
      ->capture_default_str();
  command->add_option("--seconds", arguments.seconds, "each measurement of --bench takes")->type_name("S")->capture_default_str();
  command->footer(
      "Example:\n"
      "  treadle data --config-file configs/fashion_mnist_cnn.yaml --bench\n"
      "Exit status: 0 done, 1 an error, 2 wrong usage.");
  return command;
}

int run_data(const DataArguments& arguments) {
  if (!(arguments.seconds > 0) || arguments.seconds > 3600)
    throw ConfigError(fmt::format("--seconds is {}: more than 0 and at most 3600 is needed", arguments.seconds), "--seconds");
  if (arguments.max_workers < 0 || arguments.max_workers > 1024)
    throw ConfigError(fmt::format("--max-workers is {}: 0 to 1024 is needed", arguments.max_workers), "--max-workers");
  std::optional<LogToStderr> log;
  if (arguments.json) log.emplace();
  const Config config = read_config(arguments);
  if (config.get_strings("DATASETS.TRAIN").empty() && config.get_strings("DATASETS.TEST").empty())
    config.fail("DATASETS.TRAIN", "there is nothing to show: neither this nor DATASETS.TEST names a data set");
  Json object;
  std::vector<OpenSet> train_sets;
  for (const char* key : {"DATASETS.TRAIN", "DATASETS.TEST"}) {
    const std::vector<OpenSet> sets = open_all(config, key);
    Json& list = object[key] = Json::array();
    for (const OpenSet& set : sets) {
      const DataReport report = describe_dataset(set.name, *set.dataset, class_names_of(set.name, *set.dataset));
      list.push_back(json_of(report));
      if (!arguments.json) print(table_of(report, key) + "\n");
    }
    if (std::string_view(key) == "DATASETS.TRAIN") train_sets = sets;
  }
  if (arguments.bench) {
    Json& list = object["bench"] = Json::array();
    if (!arguments.json) {
      print(
          fmt::format("Batches of {} from the training loader; milliseconds a batch that the caller waits and a worker takes\n"
                      "{:>7}  {:>9}  {:>9}  {:>9}  {:>9}  slowest\n",
                      config.get_int("SOLVER.IMS_PER_BATCH"), "workers", "images/s", "decoding", "collating", "worker"));
    }
    bench(config, train_sets, arguments, [&](const LoaderSpeed& speed) {
      list.push_back(json_of(speed));
      if (!arguments.json) print(line_of(speed));
    });
  }
  if (arguments.json) print(json_text(object));
  return 0;
}

}  // namespace treadle

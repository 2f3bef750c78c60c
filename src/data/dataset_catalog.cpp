#include <treadle/base/errors.hpp>
#include <treadle/data/csv_dataset.hpp>
#include <treadle/data/dataset_catalog.hpp>
#include <treadle/data/idx_dataset.hpp>
#include <treadle/data/image_folder.hpp>

#include <fmt/format.h>

#include <charconv>

namespace treadle {

namespace {

constexpr std::string_view kFolderPrefix = "image_folder:", kCsvPrefix = "csv:";

DatasetEntry fashion_mnist(const std::string& part) {
  DatasetEntry entry;
  entry.metadata.class_names = {"T-shirt/top", "Trouser", "Pullover", "Dress", "Coat",
                                "Sandal",      "Shirt",   "Sneaker",  "Bag",   "Ankle boot"};
  const auto classes = static_cast<std::int64_t>(entry.metadata.class_names.size());
  entry.make = [part, classes](const DatasetOptions& options) -> std::unique_ptr<Dataset> {
    const std::filesystem::path root = options.root.empty() ? "/usr/share/datasets/fashion-mnist" : options.root;
    return std::make_unique<IdxDataset>(IdxOptions{.images = root / (part + "-images-idx3-ubyte.gz"),
                                                   .labels = root / (part + "-labels-idx1-ubyte.gz"),
                                                   .num_classes = classes,
                                                   .package_hint = "dataset-fashion-mnist"});
  };
  return entry;
}

DatasetEntry image_folder(const std::string& path) {
  DatasetEntry entry;
  entry.make = [path](const DatasetOptions& options) -> std::unique_ptr<Dataset> {
    return std::make_unique<ImageFolder>(ImageFolderOptions{.root = options.root / path, .decode = {.mode = options.mode}});
  };
  return entry;
}

/// `rest`: FILE, FILE:TARGET or FILE:TARGET:CLASSES.
DatasetEntry csv(const std::string& name, std::string rest) {
  CsvOptions options;
  if (const std::size_t colon = rest.find(':'); colon != std::string::npos) {
    std::string target = rest.substr(colon + 1);
    rest.resize(colon);
    if (const std::size_t second = target.find(':'); second != std::string::npos) {
      const char* end = target.data() + target.size();
      const auto [stop, error] = std::from_chars(target.data() + second + 1, end, options.num_classes);
      if (error != std::errc() || stop != end || options.num_classes < 1) {
        throw ConfigError(fmt::format("the data set \"{}\" must be csv:FILE:TARGET:CLASSES with a number of classes", name),
                          name);
      }
      target.resize(second);
    }
    options.targets = {target};
  }
  options.file = rest;
  DatasetEntry entry;
  entry.make = [options](const DatasetOptions& where) -> std::unique_ptr<Dataset> {
    CsvOptions at_root = options;
    at_root.file = where.root / options.file;
    return std::make_unique<CsvDataset>(at_root);
  };
  return entry;
}

}  // namespace

Registry<DatasetEntry>& dataset_catalog() {
  static Registry<DatasetEntry>* catalog = [] {
    auto* built_in = new Registry<DatasetEntry>("data set");  // never destroyed: other static objects may look into it at exit
    built_in->add("fashion_mnist_train", fashion_mnist("train"));
    built_in->add("fashion_mnist_test", fashion_mnist("t10k"));
    return built_in;
  }();
  return *catalog;
}

DatasetEntry find_dataset(const std::string& name) {
  if (name.starts_with(kFolderPrefix)) return image_folder(name.substr(kFolderPrefix.size()));
  if (name.starts_with(kCsvPrefix)) return csv(name, name.substr(kCsvPrefix.size()));
  return dataset_catalog().get(name);
}

std::unique_ptr<Dataset> make_dataset(const std::string& name, const DatasetOptions& options) {
  return find_dataset(name).make(options);
}

std::vector<std::string> class_names_of(const std::string& name, const Dataset& dataset) {
  if (const auto* folder = dynamic_cast<const ImageFolder*>(&dataset)) return folder->class_names();
  return find_dataset(name).metadata.class_names;
}

std::vector<std::string> class_names_of(const std::string& name, const DatasetOptions& options) {
  if (!name.starts_with(kFolderPrefix))
    return dataset_catalog().contains(name) ? dataset_catalog().get(name).metadata.class_names : std::vector<std::string>();
  try {
    return class_folders(options.root / name.substr(kFolderPrefix.size()));
  } catch (const IoError&) {
    return {};
  }
}

}  // namespace treadle

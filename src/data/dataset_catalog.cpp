#include <treadle/data/dataset.hpp>
#include <treadle/data/idx_dataset.hpp>

namespace treadle {

namespace {

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

std::unique_ptr<Dataset> make_dataset(const std::string& name, const DatasetOptions& options) {
  return dataset_catalog().get(name).make(options);
}

}  // namespace treadle

#pragma once

#include <treadle/base/registry.hpp>
#include <treadle/data/dataset.hpp>

#include <filesystem>
#include <functional>
#include <memory>
#include <string>
#include <vector>

namespace treadle {

/// What is known about a data set beside its samples.
struct DatasetMetadata {
  std::vector<std::string> class_names{};  ///< `class_names[label]`; empty when there are no classes
};

/// Where a data set of the catalog is read from.
struct DatasetOptions {
  std::filesystem::path root{};       ///< the folder of its files; empty for the usual place
  ColourMode mode = ColourMode::rgb;  ///< of the pictures of an image folder
};

/// A data set that can be spoken of by name.
struct DatasetEntry {
  std::function<std::unique_ptr<Dataset>(const DatasetOptions&)> make;
  DatasetMetadata metadata;
};

/// The data sets of this process by name. "fashion_mnist_train" and "fashion_mnist_test" are built in: `root` defaults to
/// /usr/share/datasets/fashion-mnist, where Debian's package dataset-fashion-mnist puts them; see IdxDataset for their fields.
Registry<DatasetEntry>& dataset_catalog();

/// What the catalog holds under `name`, or what the name itself says, with paths below DatasetOptions::root:
/// "image_folder:PATH" is an ImageFolder, "csv:FILE", "csv:FILE:TARGET" and "csv:FILE:TARGET:CLASSES" a CsvDataset without
/// targets, with one, or with one that is a class. Throws ConfigError when there is no such data set.
DatasetEntry find_dataset(const std::string& name);

/// Opens the data set `find_dataset(name)`: ConfigError when there is none; IoError, FormatError from its files.
std::unique_ptr<Dataset> make_dataset(const std::string& name, const DatasetOptions& options = {});

/// `[label]` of the data set `name`, which `dataset` was made from: those of its entry, or the folders of an ImageFolder; empty
/// when the classes have no names.
std::vector<std::string> class_names_of(const std::string& name, const Dataset& dataset);
/// The same without opening it; none for a name that is not in the catalog, or a folder that cannot be read.
std::vector<std::string> class_names_of(const std::string& name, const DatasetOptions& options);

}  // namespace treadle

#pragma once

#include <treadle/base/batch.hpp>
#include <treadle/base/registry.hpp>
#include <treadle/base/rng.hpp>
#include <treadle/data/transforms.hpp>

#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

namespace treadle {

/// A fixed collection of samples that can be asked for by index. Immutable: many threads call every function at once.
class Dataset {
 public:
  virtual ~Dataset() = default;
  Dataset(const Dataset&) = delete;
  Dataset& operator=(const Dataset&) = delete;

  virtual std::int64_t size() const = 0;
  /// The sample at `index` in [0, size()), else Error. `rng` is this sample's own randomness: the same (seed, position) gives the
  /// same sample on every thread. Tensors of the sample may share memory with the data set: nobody writes to them.
  virtual Sample get(std::int64_t index, Rng& rng) const = 0;
  /// The samples at `indices` as `collate` would join them, for a data set that has a faster way than one by one; else nothing.
  /// Only for data sets whose `get` uses no randomness.
  virtual std::optional<Dict> get_batch(std::span<const std::int64_t> indices) const;

 protected:
  Dataset() = default;
};

/// Samples from tensors with one row per sample: field f of sample i is row i of tensor f. Throws ConfigError when there is no
/// field or the tensors differ in their number of rows.
class TensorDataset final : public Dataset {
 public:
  explicit TensorDataset(Dict fields);
  std::int64_t size() const override { return size_; }
  Sample get(std::int64_t index, Rng& rng) const override;
  std::optional<Dict> get_batch(std::span<const std::int64_t> indices) const override;

 private:
  Dict fields_;
  std::int64_t size_;
};

/// Sample i is sample `indices[i]` of another data set. Throws ConfigError when an index is out of its range.
class SubsetDataset final : public Dataset {
 public:
  SubsetDataset(std::shared_ptr<const Dataset> dataset, std::vector<std::int64_t> indices);
  std::int64_t size() const override { return static_cast<std::int64_t>(indices_.size()); }
  Sample get(std::int64_t index, Rng& rng) const override;
  std::optional<Dict> get_batch(std::span<const std::int64_t> indices) const override;

 private:
  std::shared_ptr<const Dataset> dataset_;
  std::vector<std::int64_t> indices_;
};

/// Another data set with `transform` applied to every sample.
class MapDataset final : public Dataset {
 public:
  MapDataset(std::shared_ptr<const Dataset> dataset, Transform transform);
  std::int64_t size() const override { return dataset_->size(); }
  Sample get(std::int64_t index, Rng& rng) const override;

 private:
  std::shared_ptr<const Dataset> dataset_;
  Transform transform_;
};

/// What is known about a data set beside its samples.
struct DatasetMetadata {
  std::vector<std::string> class_names{};  ///< `class_names[label]`; empty when there are no classes
};

/// Where a data set of the catalog is read from.
struct DatasetOptions {
  std::filesystem::path root{};  ///< the folder of its files; empty for the usual place
};

/// A data set that can be spoken of by name.
struct DatasetEntry {
  std::function<std::unique_ptr<Dataset>(const DatasetOptions&)> make;
  DatasetMetadata metadata;
};

/// The data sets of this process by name. "fashion_mnist_train" and "fashion_mnist_test" are built in: `root` defaults to
/// /usr/share/datasets/fashion-mnist, where Debian's package dataset-fashion-mnist puts them; see IdxDataset for their fields.
Registry<DatasetEntry>& dataset_catalog();

/// Opens the data set `name` of the catalog: ConfigError when there is none; IoError, FormatError from its files.
std::unique_ptr<Dataset> make_dataset(const std::string& name, const DatasetOptions& options = {});

}  // namespace treadle

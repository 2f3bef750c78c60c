#pragma once

#include <treadle/base/batch.hpp>
#include <treadle/base/rng.hpp>
#include <treadle/data/batch_memory.hpp>
#include <treadle/data/transforms.hpp>
#include <treadle/image/image.hpp>

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
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
  /// Large tensors are taken from `memory`, if any. Only for data sets whose `get` uses no randomness.
  virtual std::optional<Dict> get_batch(std::span<const std::int64_t> indices, BatchMemory* memory = nullptr) const;

  /// What can be told of a sample without making it: its class, and the size of its image. Nothing when that is unknown.
  virtual std::optional<std::int64_t> label(std::int64_t index) const;
  virtual std::optional<ImageSize> image_size(std::int64_t index) const;
  /// Whether "image" holds pictures as their files have them, each of a size of its own: what a run says about the size of images
  /// is meant for these. False unless a data set knows better.
  virtual bool has_pictures() const { return false; }

 protected:
  Dataset() = default;
};

/// Samples from tensors with one row per sample: field f of sample i is row i of tensor f; a field "label" of one integer per row
/// is the class. Throws ConfigError when there is no
/// field or the tensors differ in their number of rows.
class TensorDataset final : public Dataset {
 public:
  explicit TensorDataset(Dict fields);
  std::int64_t size() const override { return size_; }
  Sample get(std::int64_t index, Rng& rng) const override;
  std::optional<Dict> get_batch(std::span<const std::int64_t> indices, BatchMemory* memory = nullptr) const override;
  std::optional<std::int64_t> label(std::int64_t index) const override;

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
  std::optional<Dict> get_batch(std::span<const std::int64_t> indices, BatchMemory* memory = nullptr) const override;
  std::optional<std::int64_t> label(std::int64_t index) const override;
  std::optional<ImageSize> image_size(std::int64_t index) const override;
  bool has_pictures() const override { return dataset_->has_pictures(); }

 private:
  std::shared_ptr<const Dataset> dataset_;
  std::vector<std::int64_t> indices_;
};

/// Several data sets, one behind the other. Throws ConfigError when there is none, or one is null.
class ConcatDataset final : public Dataset {
 public:
  explicit ConcatDataset(std::vector<std::shared_ptr<const Dataset>> datasets);
  std::int64_t size() const override { return ends_.back(); }
  Sample get(std::int64_t index, Rng& rng) const override;
  std::optional<std::int64_t> label(std::int64_t index) const override;
  std::optional<ImageSize> image_size(std::int64_t index) const override;
  /// When one of them has.
  bool has_pictures() const override;

 private:
  struct Place {
    const Dataset* dataset;
    std::int64_t index;
  };
  Place find(std::int64_t index) const;

  std::vector<std::shared_ptr<const Dataset>> datasets_;
  std::vector<std::int64_t> ends_;  // ends_[i]: the samples in the first i + 1
};

/// Another data set with `transform` applied to every sample. Classes are taken to stay as they are.
class MapDataset final : public Dataset {
 public:
  MapDataset(std::shared_ptr<const Dataset> dataset, Transform transform);
  std::int64_t size() const override { return dataset_->size(); }
  Sample get(std::int64_t index, Rng& rng) const override;
  std::optional<std::int64_t> label(std::int64_t index) const override;
  bool has_pictures() const override { return dataset_->has_pictures(); }

 private:
  std::shared_ptr<const Dataset> dataset_;
  Transform transform_;
};

}  // namespace treadle

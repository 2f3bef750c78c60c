#include <treadle/base/errors.hpp>
#include <treadle/data/dataset.hpp>

#include <ATen/ops/index_select.h>
#include <ATen/ops/tensor.h>
#include <fmt/format.h>

#include "data/index_check.hpp"

namespace treadle {

std::optional<Dict> Dataset::get_batch(std::span<const std::int64_t>) const { return std::nullopt; }

namespace {

std::int64_t count_rows(const Dict& fields) {
  if (fields.empty()) throw ConfigError("a TensorDataset needs at least one field", "fields");
  std::optional<std::int64_t> rows;
  for (const Dict::Entry& entry : fields) {
    if (!entry.value.is(Value::Type::tensor) || entry.value.as_tensor().dim() == 0) {
      throw ConfigError(fmt::format("the field \"{}\" of a TensorDataset must be a tensor with one row per sample, found {}",
                                    entry.key.to_string(), describe(entry.value)),
                        entry.key.to_string());
    }
    std::int64_t size = entry.value.as_tensor().size(0);
    if (rows.value_or(size) != size) {
      throw ConfigError(fmt::format("the field \"{}\" of a TensorDataset has {} rows, \"{}\" has {}", entry.key.to_string(), size,
                                    fields.begin()->key.to_string(), *rows),
                        entry.key.to_string());
    }
    rows = size;
  }
  return *rows;
}

}  // namespace

TensorDataset::TensorDataset(Dict fields) : fields_(std::move(fields)), size_(count_rows(fields_)) {}

Sample TensorDataset::get(std::int64_t index, Rng&) const {
  check_index(index, size_);
  Sample sample;
  for (const Dict::Entry& entry : fields_) sample.set(entry.key, entry.value.as_tensor().select(0, index));
  return sample;
}

std::optional<Dict> TensorDataset::get_batch(std::span<const std::int64_t> indices) const {
  for (std::int64_t index : indices) check_index(index, size_);
  at::Tensor rows = at::tensor(at::ArrayRef<std::int64_t>(indices.data(), indices.size()), at::kLong);
  Dict batch;
  for (const Dict::Entry& entry : fields_) {
    const at::Tensor& tensor = entry.value.as_tensor();
    batch.set(entry.key, at::index_select(tensor, 0, rows.to(tensor.device())));
  }
  return batch;
}

SubsetDataset::SubsetDataset(std::shared_ptr<const Dataset> dataset, std::vector<std::int64_t> indices)
    : dataset_(std::move(dataset)), indices_(std::move(indices)) {
  if (!dataset_) throw ConfigError("a SubsetDataset needs a data set", "dataset");
  for (std::size_t i = 0; i < indices_.size(); ++i) {
    if (indices_[i] >= 0 && indices_[i] < dataset_->size()) continue;
    throw ConfigError(fmt::format("index {} of a SubsetDataset is {}, out of [0, {})", i, indices_[i], dataset_->size()),
                      "indices");
  }
}

Sample SubsetDataset::get(std::int64_t index, Rng& rng) const {
  check_index(index, size());
  return dataset_->get(indices_[static_cast<std::size_t>(index)], rng);
}

std::optional<Dict> SubsetDataset::get_batch(std::span<const std::int64_t> indices) const {
  std::vector<std::int64_t> inner;
  inner.reserve(indices.size());
  for (std::int64_t index : indices) {
    check_index(index, size());
    inner.push_back(indices_[static_cast<std::size_t>(index)]);
  }
  return dataset_->get_batch(inner);
}

MapDataset::MapDataset(std::shared_ptr<const Dataset> dataset, Transform transform)
    : dataset_(std::move(dataset)), transform_(std::move(transform)) {
  if (!dataset_) throw ConfigError("a MapDataset needs a data set", "dataset");
  if (!transform_) throw ConfigError("a MapDataset needs a transform", "transform");
}

Sample MapDataset::get(std::int64_t index, Rng& rng) const { return transform_(dataset_->get(index, rng), rng); }

}  // namespace treadle

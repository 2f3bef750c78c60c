#include <treadle/base/errors.hpp>
#include <treadle/data/dataset.hpp>

#include <ATen/ops/index_select.h>
#include <ATen/ops/tensor.h>
#include <fmt/format.h>

#include <algorithm>
#include <cstring>

#include "data/index_check.hpp"

namespace treadle {

std::optional<Dict> Dataset::get_batch(std::span<const std::int64_t>, BatchMemory*) const { return std::nullopt; }
std::optional<std::int64_t> Dataset::label(std::int64_t) const { return std::nullopt; }
std::optional<ImageSize> Dataset::image_size(std::int64_t) const { return std::nullopt; }

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

std::optional<std::int64_t> TensorDataset::label(std::int64_t index) const {
  check_index(index, size_);
  const Value* labels = fields_.find("label");
  if (!labels || labels->as_tensor().dim() != 1 || !at::isIntegralType(labels->as_tensor().scalar_type(), false)) return {};
  return labels->as_tensor()[index].item<std::int64_t>();
}

namespace {

/// The rows `indices` of a contiguous tensor on the CPU. at::index_select would take a tensor of indices, which costs as much as
/// the copy of small rows.
at::Tensor gather_rows(const at::Tensor& tensor, std::span<const std::int64_t> indices, BatchMemory* memory) {
  std::vector<std::int64_t> shape = tensor.sizes().vec();
  shape.front() = static_cast<std::int64_t>(indices.size());
  at::Tensor rows = empty_in(memory, shape, tensor.scalar_type());
  const std::size_t bytes = indices.empty() ? 0 : rows.nbytes() / indices.size();
  if (bytes == 0) return rows;
  const auto* from = static_cast<const char*>(tensor.const_data_ptr());
  auto* to = static_cast<char*>(rows.mutable_data_ptr());
  for (std::int64_t index : indices) {
    std::memcpy(to, from + static_cast<std::size_t>(index) * bytes, bytes);
    to += bytes;
  }
  return rows;
}

bool is_plain(const at::Tensor& tensor) {
  return tensor.is_cpu() && tensor.layout() == at::kStrided && tensor.is_contiguous() && !tensor.requires_grad() &&
         !tensor.is_quantized() && !tensor.is_conj() && !tensor.is_neg();
}

}  // namespace

std::optional<Dict> TensorDataset::get_batch(std::span<const std::int64_t> indices, BatchMemory* memory) const {
  for (std::int64_t index : indices) check_index(index, size_);
  Dict batch;
  for (const Dict::Entry& entry : fields_) {
    const at::Tensor& tensor = entry.value.as_tensor();
    if (is_plain(tensor)) {
      batch.set(entry.key, gather_rows(tensor, indices, memory));
    } else {
      const at::Tensor rows = at::tensor(at::ArrayRef<std::int64_t>(indices.data(), indices.size()), at::kLong);
      batch.set(entry.key, at::index_select(tensor, 0, rows.to(tensor.device())));
    }
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

std::optional<Dict> SubsetDataset::get_batch(std::span<const std::int64_t> indices, BatchMemory* memory) const {
  std::vector<std::int64_t> inner;
  inner.reserve(indices.size());
  for (std::int64_t index : indices) {
    check_index(index, size());
    inner.push_back(indices_[static_cast<std::size_t>(index)]);
  }
  return dataset_->get_batch(inner, memory);
}

std::optional<std::int64_t> SubsetDataset::label(std::int64_t index) const {
  check_index(index, size());
  return dataset_->label(indices_[static_cast<std::size_t>(index)]);
}

std::optional<ImageSize> SubsetDataset::image_size(std::int64_t index) const {
  check_index(index, size());
  return dataset_->image_size(indices_[static_cast<std::size_t>(index)]);
}

ConcatDataset::ConcatDataset(std::vector<std::shared_ptr<const Dataset>> datasets) : datasets_(std::move(datasets)) {
  if (datasets_.empty()) throw ConfigError("a ConcatDataset needs at least one data set", "datasets");
  std::int64_t end = 0;
  for (std::size_t i = 0; i < datasets_.size(); ++i) {
    if (!datasets_[i]) throw ConfigError(fmt::format("data set {} of a ConcatDataset is null", i), "datasets");
    ends_.push_back(end += datasets_[i]->size());
  }
}

ConcatDataset::Place ConcatDataset::find(std::int64_t index) const {
  check_index(index, size());
  const auto end = std::upper_bound(ends_.begin(), ends_.end(), index);
  const Dataset& dataset = *datasets_[static_cast<std::size_t>(end - ends_.begin())];
  return {&dataset, index - (*end - dataset.size())};
}

Sample ConcatDataset::get(std::int64_t index, Rng& rng) const {
  const Place place = find(index);
  return place.dataset->get(place.index, rng);
}

std::optional<std::int64_t> ConcatDataset::label(std::int64_t index) const {
  const Place place = find(index);
  return place.dataset->label(place.index);
}

std::optional<ImageSize> ConcatDataset::image_size(std::int64_t index) const {
  const Place place = find(index);
  return place.dataset->image_size(place.index);
}

bool ConcatDataset::has_pictures() const {
  return std::ranges::any_of(datasets_, [](const auto& dataset) { return dataset->has_pictures(); });
}

MapDataset::MapDataset(std::shared_ptr<const Dataset> dataset, Transform transform)
    : dataset_(std::move(dataset)), transform_(std::move(transform)) {
  if (!dataset_) throw ConfigError("a MapDataset needs a data set", "dataset");
  if (!transform_) throw ConfigError("a MapDataset needs a transform", "transform");
}

Sample MapDataset::get(std::int64_t index, Rng& rng) const { return transform_(dataset_->get(index, rng), rng); }
std::optional<std::int64_t> MapDataset::label(std::int64_t index) const { return dataset_->label(index); }

}  // namespace treadle

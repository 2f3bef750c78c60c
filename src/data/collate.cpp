#include <treadle/base/errors.hpp>
#include <treadle/data/data_loader.hpp>

#include <ATen/ops/empty.h>
#include <ATen/ops/stack.h>
#include <fmt/format.h>

#include <cstring>

namespace treadle {

namespace {

/// The values of one field over all samples, in their order; borrowed.
using Column = std::vector<const Value*>;

bool all_are(const Column& column, Value::Type type) {
  for (const Value* value : column) {
    if (!value->is(type)) return false;
  }
  return true;
}

bool same_form(const Column& column) {
  const at::Tensor& first = column.front()->as_tensor();
  for (const Value* value : column) {
    const at::Tensor& tensor = value->as_tensor();
    if (tensor.scalar_type() != first.scalar_type() || tensor.sizes() != first.sizes() || tensor.device() != first.device() ||
        tensor.layout() != first.layout()) {
      return false;
    }
  }
  return true;
}

bool is_plain_memory(const at::Tensor& tensor) {
  return tensor.device().is_cpu() && tensor.layout() == at::kStrided && !tensor.requires_grad() && !tensor.is_quantized() &&
         !tensor.is_conj() && !tensor.is_neg();
}

// at::stack checks and wraps every tensor anew, which costs more than the copy itself when samples are small.
at::Tensor stack(const Column& column, BatchMemory* memory) {
  const at::Tensor& first = column.front()->as_tensor();
  for (const Value* value : column) {
    if (is_plain_memory(value->as_tensor())) continue;
    std::vector<at::Tensor> tensors;
    for (const Value* element : column) tensors.push_back(element->as_tensor());
    return at::stack(tensors);
  }
  std::vector<std::int64_t> shape{static_cast<std::int64_t>(column.size())};
  shape.insert(shape.end(), first.sizes().begin(), first.sizes().end());
  at::Tensor stacked = empty_in(memory, shape, first.scalar_type());
  auto* to = static_cast<char*>(stacked.mutable_data_ptr());
  const std::size_t bytes = first.nbytes();
  if (bytes == 0) return stacked;
  for (std::size_t i = 0; i < column.size(); ++i, to += bytes) {
    const at::Tensor& tensor = column[i]->as_tensor();
    if (tensor.is_contiguous()) {
      std::memcpy(to, tensor.const_data_ptr(), bytes);
    } else {
      stacked.select(0, static_cast<std::int64_t>(i)).copy_(tensor);
    }
  }
  return stacked;
}

template <class T, class Read>
at::Tensor numbers(const Column& column, at::ScalarType type, Read read) {
  at::Tensor tensor = at::empty({static_cast<std::int64_t>(column.size())}, type);
  T* to = tensor.mutable_data_ptr<T>();
  for (const Value* value : column) *to++ = read(*value);
  return tensor;
}

Value join(const Column& column, BatchMemory* memory) {
  switch (column.front()->type()) {
    case Value::Type::tensor:
      if (all_are(column, Value::Type::tensor) && same_form(column)) return stack(column, memory);
      break;
    case Value::Type::integer:
      if (!all_are(column, Value::Type::integer)) break;
      return numbers<std::int64_t>(column, at::kLong, [](const Value& value) { return value.as_int(); });
    case Value::Type::real:
      if (!all_are(column, Value::Type::real)) break;
      return numbers<double>(column, at::kDouble, [](const Value& value) { return value.as_double(); });
    case Value::Type::boolean:
      if (!all_are(column, Value::Type::boolean)) break;
      return numbers<bool>(column, at::kBool, [](const Value& value) { return value.as_bool(); });
    default:
      break;
  }
  List list;
  list.reserve(column.size());
  for (const Value* value : column) list.push_back(*value);
  return list;
}

const Value& field_of(const Sample& sample, std::size_t place, const Key& key, std::size_t number) {
  // Samples of one data set nearly always have their fields in the same order.
  if (place < sample.size() && sample.begin()[place].key == key) return sample.begin()[place].value;
  if (const Value* value = sample.find(key)) return *value;
  throw FormatError(fmt::format("sample {} of the batch has no field \"{}\", which the first one has", number, key.to_string()));
}

}  // namespace

Dict collate(std::vector<Sample> samples) { return collate_into(std::move(samples), nullptr); }

Dict collate_into(std::vector<Sample> samples, BatchMemory* memory) {
  Dict fields;
  if (samples.empty()) return fields;
  const Sample& first = samples.front();
  for (std::size_t i = 0; i < samples.size(); ++i) {
    if (samples[i].size() == first.size()) continue;
    throw FormatError(
        fmt::format("sample {} of the batch has {} fields, the first one has {}", i, samples[i].size(), first.size()));
  }
  Column column(samples.size());
  std::size_t place = 0;
  for (const Dict::Entry& entry : first) {
    for (std::size_t i = 0; i < samples.size(); ++i) column[i] = &field_of(samples[i], place, entry.key, i);
    fields.set(entry.key, join(column, memory));
    ++place;
  }
  return fields;
}

}  // namespace treadle

#include <treadle/base/batch.hpp>
#include <treadle/base/errors.hpp>
#include <treadle/base/text.hpp>

#include <fmt/format.h>

namespace treadle {

Batch::Batch(Dict fields, std::vector<std::int64_t> ids)
    : fields_(std::move(fields)), ids_(std::move(ids)), size_(static_cast<std::int64_t>(ids_.size())) {}

Batch::Batch(Dict fields) : fields_(std::move(fields)) {
  if (fields_.empty()) return;
  const Dict::Entry& first = *fields_.begin();
  if (first.value.is(Value::Type::list)) {
    size_ = static_cast<std::int64_t>(first.value.as_list().size());
  } else if (first.value.is(Value::Type::tensor) && first.value.as_tensor().dim() > 0) {
    size_ = first.value.as_tensor().size(0);
  } else {
    throw FormatError(fmt::format("the field \"{}\" of a batch must be a tensor with a batch dimension or a List, found {}",
                                  first.key.to_string(), describe(first.value)));
  }
}

const Value& Batch::field(std::string_view name) const {
  // There are few fields: comparing their names takes less than making a Key to look up.
  for (const Dict::Entry& entry : fields_) {
    if (entry.key.is_string() && entry.key.string() == name) return entry.value;
  }
  std::vector<std::string> present;
  for (const auto& entry : fields_) present.push_back(entry.key.to_string());
  throw FormatError(
      fmt::format("the batch has no field \"{}\"{}; it has: {}", name, did_you_mean(name, present), quoted_list(present)));
}

const at::Tensor& Batch::tensor(std::string_view name) const {
  const Value& value = field(name);
  if (value.is(Value::Type::tensor)) return value.as_tensor();
  throw FormatError(fmt::format("the field \"{}\" of the batch must be a Tensor, found {}", name, to_string(value.type())));
}

const List& Batch::list(std::string_view name) const {
  const Value& value = field(name);
  if (value.is(Value::Type::list)) return value.as_list();
  throw FormatError(fmt::format("the field \"{}\" of the batch must be a List, found {}", name, to_string(value.type())));
}

namespace {

Value to_device(const Value& value, c10::Device device);

template <class Elements>
Elements elements_to_device(const Elements& elements, c10::Device device) {
  Elements moved;
  moved.reserve(elements.size());
  for (const Value& element : elements) moved.push_back(to_device(element, device));
  return moved;
}

Value to_device(const Value& value, c10::Device device) {
  switch (value.type()) {
    case Value::Type::tensor:
      return value.as_tensor().to(device);
    case Value::Type::list:
      return elements_to_device(value.as_list(), device);
    case Value::Type::tuple:
      return elements_to_device(value.as_tuple(), device);
    case Value::Type::dict: {
      Dict moved;
      for (const auto& entry : value.as_dict()) moved.set(entry.key, to_device(entry.value, device));
      return moved;
    }
    default:
      return value;
  }
}

}  // namespace

Batch Batch::to(c10::Device device) const {
  Batch moved = *this;
  for (auto& entry : moved.fields_) entry.value = to_device(entry.value, device);
  return moved;
}

}  // namespace treadle

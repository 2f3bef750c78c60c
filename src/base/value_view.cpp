#include <treadle/base/errors.hpp>
#include <treadle/base/text.hpp>
#include <treadle/base/value_view.hpp>

#include <fmt/format.h>

namespace treadle {

ValueView::ValueView(const Value& root, std::string source) : ValueView(&root, nullptr, std::move(source), "") {}
ValueView::ValueView(const Dict& root, std::string source) : ValueView(nullptr, &root, std::move(source), "") {}

ValueView::ValueView(const Value* value, const Dict* dict, std::string source, std::string path)
    : value_(value), dict_(dict), source_(std::move(source)), path_(std::move(path)) {
  if (value_ != nullptr && value_->is(Value::Type::dict)) dict_ = &value_->as_dict();
}

void ValueView::fail(const std::string& problem) const {
  const std::string place = path_.empty() ? "at the top" : fmt::format("at \"{}\"", path_);
  throw FormatError(fmt::format("{}{}{} {}", source_, source_.empty() ? "" : ": ", problem, place));
}

bool ValueView::is(Value::Type type) const noexcept { return value_ ? value_->is(type) : type == Value::Type::dict; }

namespace {

std::string join_path(const std::string& path, const Key& key) {
  if (!key.is_string()) return path + key.to_string();
  return path.empty() ? key.string() : path + "." + key.string();
}

}  // namespace

std::optional<ValueView> ValueView::find(const Key& key) const {
  const Value* found = as_dict().find(key);
  if (found == nullptr) return std::nullopt;
  return ValueView(found, nullptr, source_, join_path(path_, key));
}

ValueView ValueView::operator[](const Key& key) const {
  if (auto found = find(key)) return *std::move(found);
  std::vector<std::string> present;
  for (const auto& entry : as_dict()) {
    if (present.size() == 12) break;
    present.push_back(entry.key.to_string());
  }
  fail(fmt::format("no key \"{}\" (present: {})", key.to_string(), quoted_list(present)));
}

ValueView ValueView::item(std::size_t index) const {
  const bool list = is(Value::Type::list);
  if (!list && !is(Value::Type::tuple)) expect<List>(nullptr, "a List");
  if (index >= size()) fail(fmt::format("expected at least {} elements, found {}", index + 1, size()));
  const Value& element = list ? value_->as_list()[index] : value_->as_tuple()[index];
  return ValueView(&element, nullptr, source_, fmt::format("{}[{}]", path_, index));
}

std::size_t ValueView::size() const {
  if (is(Value::Type::list)) return value_->as_list().size();
  if (is(Value::Type::tuple)) return value_->as_tuple().size();
  return as_dict().size();
}

template <class T>
const T& ValueView::expect(const T* found, std::string_view wanted) const {
  if (found == nullptr)
    fail(fmt::format("expected {}, found {}", wanted, to_string(value_ ? value_->type() : Value::Type::dict)));
  return *found;
}

bool ValueView::as_bool() const {
  if (!is(Value::Type::boolean)) expect<bool>(nullptr, "a bool");
  return value_->as_bool();
}
std::int64_t ValueView::as_int() const {
  if (!is(Value::Type::integer)) expect<std::int64_t>(nullptr, "an int");
  return value_->as_int();
}
double ValueView::as_double() const {
  if (!is(Value::Type::real) && !is(Value::Type::integer)) expect<double>(nullptr, "a float");
  return value_->as_double();
}
const std::string& ValueView::as_string() const {
  return expect(is(Value::Type::string) ? &value_->as_string() : nullptr, "a string");
}
const Bytes& ValueView::as_bytes() const { return expect(is(Value::Type::bytes) ? &value_->as_bytes() : nullptr, "bytes"); }
const List& ValueView::as_list() const { return expect(is(Value::Type::list) ? &value_->as_list() : nullptr, "a List"); }
const Tuple& ValueView::as_tuple() const { return expect(is(Value::Type::tuple) ? &value_->as_tuple() : nullptr, "a Tuple"); }
const Dict& ValueView::as_dict() const { return expect(dict_, "a Dict"); }
const at::Tensor& ValueView::as_tensor() const {
  return expect(is(Value::Type::tensor) ? &value_->as_tensor() : nullptr, "a Tensor");
}

}  // namespace treadle

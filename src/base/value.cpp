#include <base/value_access.hpp>
#include <treadle/base/errors.hpp>
#include <treadle/base/text.hpp>

#include <fmt/format.h>

#include <algorithm>
#include <unordered_map>

namespace treadle {

static_assert(sizeof(Value) <= 40);
static_assert(std::is_nothrow_move_constructible_v<Value> && std::is_nothrow_move_assignable_v<Value>);

namespace {

struct KeyHash {
  std::size_t operator()(const Key& key) const noexcept { return key.hash(); }
};

// Below this many entries a scan is as fast as a hash table.
constexpr std::size_t kIndexFrom = 16;

}  // namespace

struct Dict::Index {
  std::unordered_map<Key, std::size_t, KeyHash> positions;
};

namespace {

const auto share_tensor = [](const at::Tensor& tensor) { return tensor; };

}  // namespace

template <class Tag>
Sequence<Tag>::Sequence() noexcept = default;

template <class Tag>
Sequence<Tag>::Sequence(std::initializer_list<Value> values) {
  reserve(values.size());
  for (const Value& value : values) push_back(value);
}

template <class Tag>
Sequence<Tag>::Sequence(const Sequence& other) {
  std::vector<ValueAccess::Copy> pending;
  ValueAccess::copy_items(other, *this, pending, share_tensor);
  ValueAccess::copy(std::move(pending), share_tensor);
}

template <class Tag>
Sequence<Tag>::Sequence(Sequence&& other) noexcept = default;

template <class Tag>
Sequence<Tag>& Sequence<Tag>::operator=(const Sequence& other) {
  if (this != &other) *this = Sequence(other);
  return *this;
}

template <class Tag>
Sequence<Tag>& Sequence<Tag>::operator=(Sequence&& other) noexcept {
  // First out of `other`, which may lie in an element; the old elements end with `taken`, whose destructor does not recurse.
  Sequence taken(std::move(other));
  items_.swap(taken.items_);
  return *this;
}

template <class Tag>
Sequence<Tag>::~Sequence() {
  clear();
}

template <class Tag>
std::size_t Sequence<Tag>::size() const noexcept {
  return items_.size();
}
template <class Tag>
bool Sequence<Tag>::empty() const noexcept {
  return items_.empty();
}
template <class Tag>
void Sequence<Tag>::reserve(std::size_t capacity) {
  items_.reserve(capacity);
}
template <class Tag>
void Sequence<Tag>::push_back(Value value) {
  items_.push_back(std::move(value));
}
template <class Tag>
void Sequence<Tag>::clear() noexcept {
  std::vector<Value> pending;
  ValueAccess::move_items(items_, pending);
  ValueAccess::destroy(pending);
}

template <class Tag>
const Value& Sequence<Tag>::at(std::size_t index) const {
  if (index >= items_.size()) throw FormatError(fmt::format("no element {} in a sequence of {}", index, items_.size()));
  return items_[index];
}
template <class Tag>
Value& Sequence<Tag>::at(std::size_t index) {
  return const_cast<Value&>(std::as_const(*this).at(index));
}
template <class Tag>
const Value& Sequence<Tag>::operator[](std::size_t index) const {
  return at(index);
}
template <class Tag>
Value& Sequence<Tag>::operator[](std::size_t index) {
  return at(index);
}
template <class Tag>
const Value* Sequence<Tag>::begin() const noexcept {
  return items_.data();
}
template <class Tag>
const Value* Sequence<Tag>::end() const noexcept {
  return items_.data() + items_.size();
}
template <class Tag>
Value* Sequence<Tag>::begin() noexcept {
  return items_.data();
}
template <class Tag>
Value* Sequence<Tag>::end() noexcept {
  return items_.data() + items_.size();
}

template class Sequence<ListTag>;
template class Sequence<TupleTag>;

const std::string& Key::string() const {
  if (!is_string()) throw FormatError("expected a text key, found the integer key " + to_string());
  return std::get<0>(value_);
}
std::int64_t Key::integer() const {
  if (is_string()) throw FormatError("expected an integer key, found the text key \"" + to_string() + "\"");
  return std::get<1>(value_);
}
std::string Key::to_string() const { return is_string() ? std::get<0>(value_) : fmt::format("[{}]", std::get<1>(value_)); }
std::size_t Key::hash() const noexcept { return std::hash<std::variant<std::string, std::int64_t>>()(value_); }

Dict::Dict() noexcept = default;
Dict::Dict(std::initializer_list<Entry> entries) {
  reserve(entries.size());
  for (const Entry& entry : entries) set(entry.key, entry.value);
}
Dict::Dict(const Dict& other) {
  std::vector<ValueAccess::Copy> pending;
  ValueAccess::copy_entries(other, *this, pending, share_tensor);
  ValueAccess::copy(std::move(pending), share_tensor);
}
Dict::Dict(Dict&& other) noexcept = default;
Dict& Dict::operator=(const Dict& other) {
  if (this != &other) *this = Dict(other);
  return *this;
}
Dict& Dict::operator=(Dict&& other) noexcept {
  Dict taken(std::move(other));
  entries_.swap(taken.entries_);
  index_.swap(taken.index_);
  return *this;
}
Dict::~Dict() {
  if (!entries_.empty()) clear();
}

std::size_t Dict::size() const noexcept { return entries_.size(); }
bool Dict::empty() const noexcept { return entries_.empty(); }
void Dict::reserve(std::size_t capacity) { entries_.reserve(capacity); }
bool Dict::contains(const Key& key) const { return find(key) != nullptr; }

void Dict::index_last() {
  if (entries_.size() < kIndexFrom) return;
  if (index_) {
    index_->positions.emplace(entries_.back().key, entries_.size() - 1);
    return;
  }
  index_ = std::make_unique<Index>();
  for (std::size_t i = 0; i < entries_.size(); ++i) index_->positions.emplace(entries_[i].key, i);
}

const Value* Dict::find(const Key& key) const {
  if (index_) {
    auto found = index_->positions.find(key);
    return found == index_->positions.end() ? nullptr : &entries_[found->second].value;
  }
  auto found = std::find_if(entries_.begin(), entries_.end(), [&](const Entry& entry) { return entry.key == key; });
  return found == entries_.end() ? nullptr : &found->value;
}
Value* Dict::find(const Key& key) { return const_cast<Value*>(std::as_const(*this).find(key)); }

const Value& Dict::at(const Key& key) const {
  if (const Value* value = find(key)) return *value;
  std::vector<std::string> present;
  for (const Entry& entry : entries_) present.push_back(entry.key.to_string());
  constexpr std::size_t most = 12;
  const std::size_t left_out = present.size() > most ? present.size() - most : 0;
  present.resize(present.size() - left_out);
  throw FormatError(fmt::format("no key \"{}\"; present: {}{}", key.to_string(), quoted_list(present),
                                left_out ? fmt::format(" and {} more", left_out) : ""));
}
Value& Dict::at(const Key& key) { return const_cast<Value&>(std::as_const(*this).at(key)); }

Value& Dict::operator[](const Key& key) {
  if (Value* value = find(key)) return *value;
  entries_.push_back({key, Value()});
  index_last();
  return entries_.back().value;
}
void Dict::set(Key key, Value value) {
  if (Value* present = find(key)) {
    *present = std::move(value);
    return;
  }
  entries_.push_back({std::move(key), std::move(value)});
  index_last();
}

bool Dict::erase(const Key& key) {
  auto found = std::find_if(entries_.begin(), entries_.end(), [&](const Entry& entry) { return entry.key == key; });
  if (found == entries_.end()) return false;
  entries_.erase(found);
  index_.reset();
  if (!entries_.empty()) index_last();
  return true;
}
void Dict::clear() noexcept {
  std::vector<Value> pending;
  ValueAccess::move_entries(entries_, pending);
  index_.reset();
  ValueAccess::destroy(pending);
}
const Dict::Entry* Dict::begin() const noexcept { return entries_.data(); }
const Dict::Entry* Dict::end() const noexcept { return entries_.data() + entries_.size(); }
Dict::Entry* Dict::begin() noexcept { return entries_.data(); }
Dict::Entry* Dict::end() noexcept { return entries_.data() + entries_.size(); }

Value::Value(at::Tensor tensor) noexcept {
  if (tensor.defined()) data_ = std::move(tensor);
}
void throw_beyond_int64(std::uint64_t number) { throw Error(fmt::format("{} does not fit a signed 64-bit integer", number)); }

std::string_view to_string(Value::Type type) noexcept {
  constexpr std::string_view names[] = {"null", "bool", "int", "float", "string", "bytes", "List", "Tuple", "Dict", "Tensor"};
  return names[static_cast<std::size_t>(type)];
}

namespace {

[[noreturn]] void throw_type(std::string_view wanted, Value::Type found) {
  throw FormatError(fmt::format("expected {}, found {}", wanted, to_string(found)));
}

template <class T, class V>
auto& get(V& data, std::string_view wanted, Value::Type found) {
  if (auto* value = std::get_if<T>(&data)) return *value;
  throw_type(wanted, found);
}

}  // namespace

bool Value::as_bool() const { return get<bool>(data_, "a bool", type()); }
std::int64_t Value::as_int() const { return get<std::int64_t>(data_, "an int", type()); }
double Value::as_double() const {
  if (const auto* number = std::get_if<std::int64_t>(&data_)) return static_cast<double>(*number);
  return get<double>(data_, "a float", type());
}
const std::string& Value::as_string() const { return get<std::string>(data_, "a string", type()); }
const Bytes& Value::as_bytes() const { return get<Bytes>(data_, "bytes", type()); }
const List& Value::as_list() const { return get<List>(data_, "a List", type()); }
List& Value::as_list() { return get<List>(data_, "a List", type()); }
const Tuple& Value::as_tuple() const { return get<Tuple>(data_, "a Tuple", type()); }
Tuple& Value::as_tuple() { return get<Tuple>(data_, "a Tuple", type()); }
const Dict& Value::as_dict() const { return get<Dict>(data_, "a Dict", type()); }
Dict& Value::as_dict() { return get<Dict>(data_, "a Dict", type()); }
const at::Tensor& Value::as_tensor() const { return get<at::Tensor>(data_, "a Tensor", type()); }

}  // namespace treadle

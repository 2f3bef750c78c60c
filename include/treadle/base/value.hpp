#pragma once

#include <treadle/base/key.hpp>

#include <ATen/core/Tensor.h>

#include <concepts>
#include <cstdint>
#include <initializer_list>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

namespace treadle {

class Value;

/// Raw bytes, distinct from text: what Python calls `bytes`.
struct Bytes {
  std::string data;
  bool operator==(const Bytes&) const = default;
};

/// A sequence of values. `List` and `Tuple` differ in type alone, as in Python; both own their elements.
/// Copies are deep, except that tensors are shared. Neither copying nor destroying recurses, so depth is bounded by memory alone.
template <class Tag>
class Sequence {
 public:
  Sequence() noexcept;
  Sequence(std::initializer_list<Value> values);
  Sequence(const Sequence& other);
  Sequence(Sequence&& other) noexcept;
  Sequence& operator=(const Sequence& other);
  Sequence& operator=(Sequence&& other) noexcept;
  ~Sequence();

  std::size_t size() const noexcept;
  bool empty() const noexcept;
  void reserve(std::size_t capacity);
  void push_back(Value value);
  void clear() noexcept;

  /// Throws FormatError when `index` is not below `size()`.
  const Value& at(std::size_t index) const;
  Value& at(std::size_t index);
  const Value& operator[](std::size_t index) const;
  Value& operator[](std::size_t index);

  const Value* begin() const noexcept;
  const Value* end() const noexcept;
  Value* begin() noexcept;
  Value* end() noexcept;

 private:
  friend struct ValueAccess;
  std::vector<Value> items_;
};

using List = Sequence<struct ListTag>;
using Tuple = Sequence<struct TupleTag>;

/// An ordered mapping; iteration follows insertion. Lookup takes constant time. Copies are deep, except that tensors are shared.
/// Pointers and references to elements are valid until the next insertion or erasure.
class Dict {
 public:
  struct Entry;

  Dict() noexcept;
  Dict(std::initializer_list<Entry> entries);  // a later entry of an equal key replaces the value of an earlier one
  Dict(const Dict& other);
  Dict(Dict&& other) noexcept;
  Dict& operator=(const Dict& other);
  Dict& operator=(Dict&& other) noexcept;
  ~Dict();

  std::size_t size() const noexcept;
  bool empty() const noexcept;
  void reserve(std::size_t capacity);
  bool contains(const Key& key) const;

  /// The value under `key`, or nullptr.
  const Value* find(const Key& key) const;
  Value* find(const Key& key);
  /// The value under `key`; throws FormatError that names the key and those present.
  const Value& at(const Key& key) const;
  Value& at(const Key& key);
  /// The value under `key`, a null put at the end when there is none.
  Value& operator[](const Key& key);
  /// Puts `value` under `key`: in place of the old value, or at the end.
  void set(Key key, Value value);
  /// Removes `key`; false when it is absent. Takes time linear in the size.
  bool erase(const Key& key);
  void clear() noexcept;

  const Entry* begin() const noexcept;
  const Entry* end() const noexcept;
  Entry* begin() noexcept;
  Entry* end() noexcept;

 private:
  friend struct ValueAccess;
  struct Index;
  void index_last();

  std::vector<Entry> entries_;
  std::unique_ptr<Index> index_;
};

/// One of: null, bool, int64, double, text, bytes, List, Tuple, Dict, tensor. The common currency of state, batches and messages.
///
/// A value type of at most 40 bytes with a noexcept move; copies are deep, but a tensor is shared (`deep_clone` copies those
/// too). Threads may read one Value at the same time; writing needs exclusion. Accessors named `as_…` throw FormatError
/// ("expected a Tensor, found string"); ValueView adds the path to that message.
class Value {
 public:
  enum class Type { null, boolean, integer, real, string, bytes, list, tuple, dict, tensor };

  Value() noexcept = default;
  Value(std::nullptr_t) noexcept {}
  Value(bool value) noexcept : data_(value) {}
  /// Throws Error when an unsigned number exceeds the range of int64.
  template <std::integral I>
    requires(!std::same_as<I, bool>)
  Value(I number) : data_(to_int64(number)) {}
  Value(std::floating_point auto number) noexcept : data_(static_cast<double>(number)) {}
  Value(std::string text) noexcept : data_(std::move(text)) {}
  Value(std::string_view text) : data_(std::string(text)) {}
  Value(const char* text) : data_(std::string(text)) {}
  Value(Bytes bytes) noexcept : data_(std::move(bytes)) {}
  Value(List list) noexcept : data_(std::move(list)) {}
  Value(Tuple tuple) noexcept : data_(std::move(tuple)) {}
  Value(Dict dict) noexcept : data_(std::move(dict)) {}
  Value(at::Tensor tensor) noexcept;  ///< an undefined tensor becomes null

  Value(const Value&) = default;
  Value(Value&&) noexcept = default;
  ~Value() = default;
  /// What is assigned may be a part of the value, as with List, Tuple and Dict.
  Value& operator=(const Value& other) { return *this = Value(other); }
  Value& operator=(Value&& other) noexcept {
    auto taken = std::move(other.data_);  // before the old value goes, in which `other` may lie
    data_ = std::move(taken);
    return *this;
  }

  Type type() const noexcept { return static_cast<Type>(data_.index()); }
  bool is(Type type) const noexcept { return this->type() == type; }
  bool is_null() const noexcept { return is(Type::null); }

  bool as_bool() const;
  std::int64_t as_int() const;
  double as_double() const;  ///< takes an integer too
  const std::string& as_string() const;
  const Bytes& as_bytes() const;
  const List& as_list() const;
  List& as_list();
  const Tuple& as_tuple() const;
  Tuple& as_tuple();
  const Dict& as_dict() const;
  Dict& as_dict();
  const at::Tensor& as_tensor() const;

 private:
  friend struct ValueAccess;
  std::variant<std::monostate, bool, std::int64_t, double, std::string, Bytes, List, Tuple, Dict, at::Tensor> data_;
};

struct Dict::Entry {
  Key key;
  Value value;
};

/// The name of a type as messages use it: "null", "bool", "int", "float", "string", "bytes", "List", "Tuple", "Dict", "Tensor".
std::string_view to_string(Value::Type type) noexcept;

/// True when both hold the same types, keys in the same order, numbers and tensors of equal bits (dtype, shape, layout and device
/// included).
bool identical(const Value& a, const Value& b);

/// A copy that shares no tensor with `value`: tensors keep dtype, device and layout, and one that occurs twice is cloned once.
Value deep_clone(const Value& value);
Dict deep_clone(const Dict& dict);

/// One line for logs and failure messages; long sequences and tensors are abbreviated.
std::string describe(const Value& value);

}  // namespace treadle

#include <comm/value_codec.hpp>
#include <treadle/base/errors.hpp>

#include <ATen/ops/empty.h>
#include <c10/core/ScalarType.h>
#include <fmt/format.h>

#include <cstring>
#include <utility>
#include <vector>

namespace treadle {
namespace {

enum class Tag : std::uint8_t { null, no, yes, integer, real, string, bytes, list, tuple, dict, tensor };

constexpr std::size_t kMaxDimensions = 64;

class Encoder {
 public:
  std::string encode(const Value& root) {
    put(root);
    while (!open_.empty()) {
      Open& top = open_.back();
      if (top.next == top.end) {
        open_.pop_back();
      } else if (top.in_dict) {
        const auto* entry = static_cast<const Dict::Entry*>(top.next);
        top.next = entry + 1;
        put_key(entry->key);
        put(entry->value);
      } else {
        const auto* value = static_cast<const Value*>(top.next);
        top.next = value + 1;
        put(*value);
      }
    }
    return std::move(out_);
  }

 private:
  /// A container whose elements are not all written yet.
  struct Open {
    const void* next;
    const void* end;
    bool in_dict;
  };

  template <class T>
  void raw(const T& number) {
    out_.append(reinterpret_cast<const char*>(&number), sizeof number);
  }
  void tag(Tag tag) { out_.push_back(static_cast<char>(tag)); }
  void length(std::size_t number) { raw(static_cast<std::uint64_t>(number)); }
  void text(Tag kind, const std::string& text) {
    tag(kind);
    length(text.size());
    out_ += text;
  }
  template <class Container>
  void container(Tag kind, const Container& elements) {
    tag(kind);
    length(elements.size());
    open_.push_back({elements.begin(), elements.end(), kind == Tag::dict});
  }

  void put_key(const Key& key) {
    if (key.is_string()) {
      text(Tag::string, key.string());
    } else {
      tag(Tag::integer);
      raw(key.integer());
    }
  }

  void put(const Value& value) {
    switch (value.type()) {
      case Value::Type::null:
        return tag(Tag::null);
      case Value::Type::boolean:
        return tag(value.as_bool() ? Tag::yes : Tag::no);
      case Value::Type::integer:
        tag(Tag::integer);
        return raw(value.as_int());
      case Value::Type::real:
        tag(Tag::real);
        return raw(value.as_double());
      case Value::Type::string:
        return text(Tag::string, value.as_string());
      case Value::Type::bytes:
        return text(Tag::bytes, value.as_bytes().data);
      case Value::Type::list:
        return container(Tag::list, value.as_list());
      case Value::Type::tuple:
        return container(Tag::tuple, value.as_tuple());
      case Value::Type::dict:
        return container(Tag::dict, value.as_dict());
      case Value::Type::tensor:
        return put_tensor(value.as_tensor());
    }
  }

  void put_tensor(const at::Tensor& tensor) {
    if (tensor.layout() != at::kStrided || tensor.is_quantized() || tensor.is_meta()) {
      throw Error(fmt::format("only dense tensors can be sent to other processes, found {}", describe(tensor)));
    }
    const at::Tensor dense = tensor.detach().to(at::kCPU).resolve_conj().resolve_neg().contiguous();
    tag(Tag::tensor);
    out_.push_back(static_cast<char>(dense.scalar_type()));
    out_.push_back(static_cast<char>(dense.dim()));
    for (std::int64_t size : dense.sizes()) raw(size);
    if (dense.nbytes() > 0) out_.append(static_cast<const char*>(dense.const_data_ptr()), dense.nbytes());
  }

  std::string out_;
  std::vector<Open> open_;
};

class Decoder {
 public:
  explicit Decoder(std::string_view bytes) : all_(bytes), left_(bytes) {}

  Value decode() {
    for (;;) {
      Value value;
      if (begin(value) || !place(value)) continue;  // a container waits for elements
      if (!left_.empty()) fail(fmt::format("{} bytes follow the value", left_.size()));
      return value;
    }
  }

 private:
  /// Puts a value where it belongs, and every container that is complete with it. True when `value` is the whole then.
  bool place(Value& value) {
    while (!open_.empty()) {
      attach(std::move(value));
      if (open_.back().missing > 0) return false;
      value = std::move(open_.back().container);
      open_.pop_back();
    }
    return true;
  }

  struct Open {
    Value container;
    std::uint64_t missing;
    Key key;  // of a Dict: for the next value
  };

  [[noreturn]] void fail(const std::string& problem) const {
    throw FormatError(
        fmt::format("a message from another process is damaged at byte {}: {}", all_.size() - left_.size(), problem));
  }
  std::string_view take(std::uint64_t count) {
    if (count > left_.size()) fail(fmt::format("{} bytes are announced, {} are left", count, left_.size()));
    const std::string_view taken = left_.substr(0, count);
    left_.remove_prefix(count);
    return taken;
  }
  template <class T>
  T raw() {
    T number;
    std::memcpy(&number, take(sizeof number).data(), sizeof number);
    return number;
  }
  std::string text() {
    const auto count = raw<std::uint64_t>();
    return std::string(take(count));
  }
  /// The number of elements to come, each of which takes a byte at least.
  std::uint64_t count() {
    const auto number = raw<std::uint64_t>();
    if (number > left_.size()) fail(fmt::format("{} elements are announced, {} bytes are left", number, left_.size()));
    return number;
  }
  Key key() {
    const auto tag = raw<Tag>();
    if (tag == Tag::string) return text();
    if (tag == Tag::integer) return raw<std::int64_t>();
    fail("a key is neither text nor an integer");
  }

  /// Reads a value; true when it is a container whose elements come next (it is then on the stack).
  bool begin(Value& value) {
    const auto tag = raw<Tag>();
    switch (tag) {
      case Tag::null:
        return false;
      case Tag::no:
        value = false;
        return false;
      case Tag::yes:
        value = true;
        return false;
      case Tag::integer:
        value = raw<std::int64_t>();
        return false;
      case Tag::real:
        value = raw<double>();
        return false;
      case Tag::string:
        value = text();
        return false;
      case Tag::bytes:
        value = Bytes{text()};
        return false;
      case Tag::list:
        value = List();
        return open(std::move(value), value);
      case Tag::tuple:
        value = Tuple();
        return open(std::move(value), value);
      case Tag::dict:
        value = Dict();
        return open(std::move(value), value);
      case Tag::tensor:
        value = tensor();
        return false;
    }
    fail(fmt::format("unknown type {}", static_cast<int>(tag)));
  }

  /// Puts `container` on the stack, or back into `value` when it has no elements.
  bool open(Value container, Value& value) {
    const std::uint64_t elements = count();
    if (elements == 0) {
      value = std::move(container);
      return false;
    }
    const bool dict = container.is(Value::Type::dict);
    open_.push_back({std::move(container), elements, dict ? key() : Key(0)});
    return true;
  }

  void attach(Value value) {
    Open& top = open_.back();
    --top.missing;
    if (top.container.is(Value::Type::list)) {
      top.container.as_list().push_back(std::move(value));
    } else if (top.container.is(Value::Type::tuple)) {
      top.container.as_tuple().push_back(std::move(value));
    } else {
      Dict& dict = top.container.as_dict();
      if (dict.contains(top.key)) fail("a key occurs twice");
      dict.set(std::move(top.key), std::move(value));
      if (top.missing > 0) top.key = key();
    }
  }

  at::Tensor tensor() {
    const auto code = raw<std::int8_t>();
    const auto type = static_cast<c10::ScalarType>(code);
    const bool known = code >= 0 && code < static_cast<int>(c10::ScalarType::NumOptions) &&
                       (c10::isIntegralType(type, /*includeBool=*/true) || c10::isFloatingType(type) || c10::isComplexType(type));
    if (!known) fail(fmt::format("unknown type of a tensor's elements: {}", static_cast<int>(code)));
    const auto dimensions = raw<std::uint8_t>();
    if (dimensions > kMaxDimensions) fail(fmt::format("a tensor of {} dimensions", static_cast<int>(dimensions)));
    std::vector<std::int64_t> sizes(dimensions);
    std::int64_t extent = static_cast<std::int64_t>(c10::elementSize(type)), elements = 1;
    for (std::int64_t& size : sizes) {
      size = raw<std::int64_t>();
      // Sizes behind a zero count too: strides are computed from them.
      if (size < 0 || __builtin_mul_overflow(extent, std::max<std::int64_t>(size, 1), &extent))
        fail("impossible sizes of a tensor");
      elements *= size;
    }
    const std::string_view bytes = take(static_cast<std::uint64_t>(elements) * c10::elementSize(type));
    at::Tensor result = at::empty(sizes, at::TensorOptions().dtype(type));
    if (!bytes.empty()) std::memcpy(result.mutable_data_ptr(), bytes.data(), bytes.size());
    return result;
  }

  std::string_view all_, left_;
  std::vector<Open> open_;
};

}  // namespace

std::string encode_value(const Value& value) { return Encoder().encode(value); }

Value decode_value(std::string_view bytes) { return Decoder(bytes).decode(); }

}  // namespace treadle

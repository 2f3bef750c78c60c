// Comparing, cloning and describing whole trees of values.
#include <base/value_access.hpp>
#include <treadle/base/errors.hpp>

#include <fmt/ranges.h>

#include <bit>
#include <cstdint>
#include <cstring>
#include <unordered_map>

namespace treadle {

namespace {

bool same_bits(const at::Tensor& a, const at::Tensor& b);

/// The scales and zero points of two quantized tensors.
bool same_quantizer(const at::Tensor& a, const at::Tensor& b) {
  if (a.qscheme() != b.qscheme()) return false;
  if (a.qscheme() == at::kPerTensorAffine) {
    return std::bit_cast<std::uint64_t>(a.q_scale()) == std::bit_cast<std::uint64_t>(b.q_scale()) &&
           a.q_zero_point() == b.q_zero_point();
  }
  return a.q_per_channel_axis() == b.q_per_channel_axis() && same_bits(a.q_per_channel_scales(), b.q_per_channel_scales()) &&
         same_bits(a.q_per_channel_zero_points(), b.q_per_channel_zero_points());
}

bool same_bits(const at::Tensor& a, const at::Tensor& b) {
  if (a.scalar_type() != b.scalar_type() || a.sizes() != b.sizes() || a.layout() != b.layout() || a.device() != b.device())
    return false;
  if (a.is_same(b)) return true;
  if (a.is_sparse()) {
    return a.is_coalesced() == b.is_coalesced() && same_bits(a._indices(), b._indices()) && same_bits(a._values(), b._values());
  }
  if (a.is_quantized() && !same_quantizer(a, b)) return false;
  // A conjugate may be a flag upon the bits of its opposite.
  const at::Tensor left = a.detach().resolve_conj().resolve_neg().cpu().contiguous();
  const at::Tensor right = b.detach().resolve_conj().resolve_neg().cpu().contiguous();
  // An empty tensor may have no memory at all.
  return left.nbytes() == 0 || std::memcmp(left.const_data_ptr(), right.const_data_ptr(), left.nbytes()) == 0;
}

struct Pair {
  const Value* a;
  const Value* b;
};

bool push_sequences(const std::vector<Value>& a, const std::vector<Value>& b, std::vector<Pair>& pending) {
  if (a.size() != b.size()) return false;
  for (std::size_t i = 0; i < a.size(); ++i) pending.push_back({&a[i], &b[i]});
  return true;
}

bool push_dicts(const Dict& a, const Dict& b, std::vector<Pair>& pending) {
  if (a.size() != b.size()) return false;
  for (std::size_t i = 0; i < a.size(); ++i) {
    if (a.begin()[i].key != b.begin()[i].key) return false;
    pending.push_back({&a.begin()[i].value, &b.begin()[i].value});
  }
  return true;
}

bool compare_top(const Value& a, const Value& b, std::vector<Pair>& pending) {
  if (a.type() != b.type()) return false;
  switch (a.type()) {
    case Value::Type::null:
      return true;
    case Value::Type::boolean:
      return a.as_bool() == b.as_bool();
    case Value::Type::integer:
      return a.as_int() == b.as_int();
    case Value::Type::real: {
      const double x = a.as_double(), y = b.as_double();
      return std::bit_cast<std::uint64_t>(x) == std::bit_cast<std::uint64_t>(y);
    }
    case Value::Type::string:
      return a.as_string() == b.as_string();
    case Value::Type::bytes:
      return a.as_bytes() == b.as_bytes();
    case Value::Type::list:
      return push_sequences(ValueAccess::items(a.as_list()), ValueAccess::items(b.as_list()), pending);
    case Value::Type::tuple:
      return push_sequences(ValueAccess::items(a.as_tuple()), ValueAccess::items(b.as_tuple()), pending);
    case Value::Type::dict:
      return push_dicts(a.as_dict(), b.as_dict(), pending);
    case Value::Type::tensor:
      return same_bits(a.as_tensor(), b.as_tensor());
  }
  return false;
}

}  // namespace

bool identical(const Value& a, const Value& b) {
  std::vector<Pair> pending{{&a, &b}};
  while (!pending.empty()) {
    const Pair pair = pending.back();
    pending.pop_back();
    if (!compare_top(*pair.a, *pair.b, pending)) return false;
  }
  return true;
}

Value deep_clone(const Value& value) {
  std::unordered_map<const void*, at::Tensor> clones;
  const auto clone_once = [&](const at::Tensor& tensor) {
    at::Tensor& clone = clones[tensor.unsafeGetTensorImpl()];
    if (!clone.defined()) clone = tensor.detach().clone();
    return clone;
  };
  Value result;
  ValueAccess::copy({{&value, &result}}, clone_once);
  return result;
}

Dict deep_clone(const Dict& dict) {
  Value copy = deep_clone(Value(dict));
  return std::move(copy.as_dict());
}

namespace {

constexpr std::size_t kMostElements = 8;
constexpr int kMostLevels = 4;

std::string describe(const Value& value, int levels);

template <class Range, class Describe>
std::string describe_elements(const Range& range, char open, char close, Describe describe_one) {
  std::string text(1, open);
  std::size_t count = 0;
  for (const auto& element : range) {
    if (count++) text += ", ";
    if (count > kMostElements) {
      text += fmt::format("… {} in all", range.size());
      break;
    }
    text += describe_one(element);
  }
  return text + close;
}

std::string describe_tensor(const at::Tensor& tensor) {
  return fmt::format("Tensor({}, [{}])", c10::toString(tensor.scalar_type()), fmt::join(tensor.sizes(), ", "));
}

std::string describe(const Value& value, int levels) {
  const auto inner = [&](const Value& element) { return describe(element, levels - 1); };
  const auto entry = [&](const Dict::Entry& e) { return fmt::format("{}: {}", e.key.to_string(), inner(e.value)); };
  const bool container = ValueAccess::is_nonempty_container(value);
  if (container && levels == 0) return "…";
  switch (value.type()) {
    case Value::Type::null:
      return "null";
    case Value::Type::boolean:
      return value.as_bool() ? "true" : "false";
    case Value::Type::integer:
      return fmt::format("{}", value.as_int());
    case Value::Type::real:
      return fmt::format("{}", value.as_double());
    case Value::Type::string:
      return fmt::format("\"{}\"", value.as_string());
    case Value::Type::bytes:
      return fmt::format("bytes({})", value.as_bytes().data.size());
    case Value::Type::list:
      return describe_elements(value.as_list(), '[', ']', inner);
    case Value::Type::tuple:
      return describe_elements(value.as_tuple(), '(', ')', inner);
    case Value::Type::dict:
      return describe_elements(value.as_dict(), '{', '}', entry);
    case Value::Type::tensor:
      return describe_tensor(value.as_tensor());
  }
  return "";
}

}  // namespace

std::string describe(const Value& value) { return describe(value, kMostLevels); }

}  // namespace treadle

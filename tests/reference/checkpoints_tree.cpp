#include "tests/reference/checkpoints_tree.hpp"

#include <fmt/format.h>

#include <bit>
#include <cmath>
#include <cstdlib>

#include "base/sha256.hpp"

using nlohmann::ordered_json;
using namespace treadle;

namespace {

const std::map<std::string, c10::ScalarType>& dtypes() {
  static const std::map<std::string, c10::ScalarType> all{{"float32", c10::kFloat},
                                                          {"float64", c10::kDouble},
                                                          {"float16", c10::kHalf},
                                                          {"bfloat16", c10::kBFloat16},
                                                          {"int64", c10::kLong},
                                                          {"int32", c10::kInt},
                                                          {"int16", c10::kShort},
                                                          {"int8", c10::kChar},
                                                          {"uint8", c10::kByte},
                                                          {"bool", c10::kBool},
                                                          {"complex64", c10::kComplexFloat},
                                                          {"complex128", c10::kComplexDouble},
                                                          {"complex32", c10::kComplexHalf},
                                                          {"uint16", c10::kUInt16},
                                                          {"uint32", c10::kUInt32},
                                                          {"uint64", c10::kUInt64},
                                                          {"float8_e4m3fn", c10::kFloat8_e4m3fn},
                                                          {"float8_e5m2", c10::kFloat8_e5m2},
                                                          {"f4", c10::kFloat},
                                                          {"f8", c10::kDouble},
                                                          {"f2", c10::kHalf},
                                                          {"i8", c10::kLong},
                                                          {"i4", c10::kInt},
                                                          {"i2", c10::kShort},
                                                          {"i1", c10::kChar},
                                                          {"u1", c10::kByte},
                                                          {"b1", c10::kBool}};
  return all;
}

double as_double(const std::string& text) { return std::strtod(text.c_str(), nullptr); }

bool same_number(double a, double b) {
  return (std::isnan(a) && std::isnan(b)) || std::bit_cast<std::uint64_t>(a) == std::bit_cast<std::uint64_t>(b);
}

std::string hex(const std::string& bytes) {
  std::string text;
  for (char c : bytes) text += fmt::format("{:02x}", static_cast<unsigned char>(c));
  return text;
}

std::string sha256(const void* data, std::size_t size) {
  Sha256 hash;
  hash.update(data, size);
  return hash.hex();
}

}  // namespace

std::string content_sha256(const at::Tensor& tensor) {
  at::Tensor plain = tensor.detach().resolve_conj().resolve_neg().contiguous();
  return sha256(plain.numel() ? plain.const_data_ptr() : nullptr, plain.nbytes());
}

std::vector<std::string> TreeComparison::compare(const Value& value, const ordered_json& tree) {
  differences_.clear();
  storages_.clear();
  containers_.clear();
  node(value, tree, "root");
  return differences_;
}

void TreeComparison::node(const Value& value, const ordered_json& tree, const std::string& path) {
  std::string type = tree["t"];
  ++met_[type];
  if (tree.contains("id") && type != "ref") containers_[tree["id"]] = tree;
  if (type == "ref") return node(value, ordered_json(containers_.at(tree["id"])), path);
  if (type == "dict" || type == "OrderedDict" || type == "defaultdict" || type == "Counter") return dict(value, tree, path);
  if (type == "list" || type == "tuple") return sequence(value, tree, path);
  if (type == "set" || type == "frozenset") return set(value, tree, path);
  if (type == "tensor") return tensor(value, tree, path);
  if (type == "ndarray") return array(value, tree, path);
  scalar(value, tree, path);
}

void TreeComparison::dict(const Value& value, const ordered_json& tree, const std::string& path) {
  if (!value.is(Value::Type::dict)) return differ(path, "not a Dict: " + describe(value));
  const Dict& found = value.as_dict();
  if (found.size() != tree["items"].size())
    return differ(path, fmt::format("{} entries, not {}", found.size(), tree["items"].size()));
  for (std::size_t i = 0; i < found.size(); ++i) {
    const ordered_json& item = tree["items"][i];
    const Dict::Entry& entry = found.begin()[i];
    Key expected = item[0].is_string() ? Key(item[0].get<std::string>()) : Key(std::stoll(item[0]["v"].get<std::string>()));
    if (!(entry.key == expected)) differ(path, "key " + entry.key.to_string() + " instead of " + expected.to_string());
    node(entry.value, item[1], path + "." + expected.to_string());
  }
}

void TreeComparison::sequence(const Value& value, const ordered_json& tree, const std::string& path) {
  bool is_list = tree["t"] == "list";
  if (!value.is(is_list ? Value::Type::list : Value::Type::tuple)) return differ(path, "another type: " + describe(value));
  std::size_t size = is_list ? value.as_list().size() : value.as_tuple().size();
  if (size != tree["items"].size()) return differ(path, fmt::format("{} items, not {}", size, tree["items"].size()));
  for (std::size_t i = 0; i < size; ++i) {
    node(is_list ? value.as_list()[i] : value.as_tuple()[i], tree["items"][i], fmt::format("{}[{}]", path, i));
  }
}

// A set has no order: every expected element must be there once.
void TreeComparison::set(const Value& value, const ordered_json& tree, const std::string& path) {
  if (!value.is(Value::Type::list)) return differ(path, "a set is no List");
  if (value.as_list().size() != tree["items_sorted"].size()) return differ(path, "a set of another size");
  for (const ordered_json& wanted : tree["items_sorted"]) {
    bool found = false;
    for (const Value& item : value.as_list()) found = found || TreeComparison().compare(item, wanted).empty();
    if (!found) differ(path, "a set lacks " + wanted.dump());
  }
}

void TreeComparison::tensor(const Value& value, const ordered_json& tree, const std::string& path) {
  if (!value.is(Value::Type::tensor)) return differ(path, "not a Tensor: " + describe(value));
  const at::Tensor& found = value.as_tensor();
  if (found.sizes().vec() != tree["shape"].get<std::vector<std::int64_t>>()) differ(path, "another shape");
  if (found.scalar_type() != dtypes().at(tree["dtype"])) differ(path, "another dtype");
  if (tree.contains("layout")) {
    if (tree["layout"] != "sparse_coo" || found.layout() != c10::kSparse) return differ(path, "another layout");
    node(Value(found._indices()), tree["indices"], path + ".indices");
    return node(Value(found._values()), tree["values"], path + ".values");
  }
  if (found.strides().vec() != tree["stride"].get<std::vector<std::int64_t>>()) differ(path, "other strides");
  if (found.storage_offset() != tree["storage_offset"].get<std::int64_t>()) differ(path, "another offset");
  if (found.storage().nbytes() != tree["storage_nbytes"].get<std::size_t>()) differ(path, "a storage of another size");
  const void* storage = found.storage().unsafeGetStorageImpl();
  auto [known, added] = storages_.try_emplace(tree["storage"].get<int>(), storage);
  if (known->second != storage) differ(path, "does not share its storage");
  // Whether storages without a byte are one or two cannot be seen, and the legacy reader of Python splits them.
  for (const auto& [number, other] : storages_) {
    if (found.storage().nbytes() == 0) break;
    if (number != known->first && other == storage) differ(path, "shares the storage of another tensor");
  }
  content(found, tree, path);
}

void TreeComparison::array(const Value& value, const ordered_json& tree, const std::string& path) {
  if (!value.is(Value::Type::tensor)) return differ(path, "not a Tensor: " + describe(value));
  const at::Tensor& found = value.as_tensor();
  std::string dtype = tree["dtype"];
  if (found.sizes().vec() != tree["shape"].get<std::vector<std::int64_t>>()) differ(path, "another shape");
  if (found.scalar_type() != dtypes().at(dtype.substr(1))) differ(path, "another dtype");
  if (tree["fortran"].get<bool>() && !found.t().is_contiguous()) differ(path, "lost its Fortran order");
  content(found, tree, path);
}

void TreeComparison::content(const at::Tensor& tensor, const ordered_json& tree, const std::string& path) {
  if (tree["sha256"] == content_sha256(tensor)) return;
  differ(path, "other bytes: " + describe(Value(tensor)));
}

void TreeComparison::scalar(const Value& value, const ordered_json& tree, const std::string& path) {
  std::string type = tree["t"];
  auto check = [&](bool equal) {
    if (!equal) differ(path, fmt::format("{} instead of {}", describe(value), tree.dump()));
  };
  if (type == "None") return check(value.is_null());
  if (type == "bool") return check(value.is(Value::Type::boolean) && value.as_bool() == tree["v"].get<bool>());
  if (type == "int") {
    std::string digits = tree["v"];
    bool big = digits.size() > 20 || (digits.size() > 18 && std::to_string(std::strtoll(digits.c_str(), nullptr, 10)) != digits);
    if (big) return check(value.is(Value::Type::string) && value.as_string() == digits);
    return check(value.is(Value::Type::integer) && std::to_string(value.as_int()) == digits);
  }
  if (type == "float") return check(value.is(Value::Type::real) && same_number(value.as_double(), as_double(tree["v"])));
  if (type == "str") {
    if (!value.is(Value::Type::string)) return check(false);
    if (tree.contains("v")) return check(value.as_string() == tree["v"].get<std::string>());
    return check(hex(value.as_string()) == tree["utf8_surrogatepass_hex"].get<std::string>());
  }
  if (type == "bytes" || type == "bytearray") {
    if (!value.is(Value::Type::bytes)) return check(false);
    const std::string& data = value.as_bytes().data;
    return check(data.size() == tree["n"].get<std::size_t>() &&
                 sha256(data.data(), data.size()) == tree["sha256"].get<std::string>());
  }
  if (type == "complex") {
    return check(value.is(Value::Type::tuple) && same_number(value.as_tuple()[0].as_double(), as_double(tree["v"][0])) &&
                 same_number(value.as_tuple()[1].as_double(), as_double(tree["v"][1])));
  }
  if (type == "numpy_scalar") {
    std::string text = tree["v"];
    if (tree["dtype"] == "|b1") return check(value.is(Value::Type::boolean) && value.as_bool() == (text == "True"));
    if (value.is(Value::Type::integer)) return check(std::to_string(value.as_int()) == text);
    return check(value.is(Value::Type::real) && same_number(value.as_double(), as_double(text)));
  }
  differ(path, "a type that this test does not know: " + type);
}

#include <app/checkpoint_leaves.hpp>
#include <app/terminal.hpp>
#include <base/sha256.hpp>
#include <checkpoint/dtype_names.hpp>
#include <checkpoint/zip_format.hpp>
#include <treadle/checkpoint/file.hpp>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <fstream>

namespace treadle {
namespace {

bool is_open_container(const Value& value) {
  return (value.is(Value::Type::dict) && !value.as_dict().empty()) || (value.is(Value::Type::list) && !value.as_list().empty()) ||
         (value.is(Value::Type::tuple) && !value.as_tuple().empty());
}

/// The items of a container with their paths, the last first.
void push_items(std::vector<Leaf>& pending, const Leaf& from) {
  const std::size_t first = pending.size();
  const auto push_all = [&](const auto& items) {
    for (std::size_t i = 0; i < items.size(); ++i) pending.push_back({fmt::format("{}[{}]", from.path, i), &items[i]});
  };
  if (from.value->is(Value::Type::list)) push_all(from.value->as_list());
  if (from.value->is(Value::Type::tuple)) push_all(from.value->as_tuple());
  if (from.value->is(Value::Type::dict)) {
    for (const auto& [key, value] : from.value->as_dict()) {
      const bool dot = key.is_string() && !from.path.empty();
      pending.push_back({from.path + (dot ? "." : "") + key.to_string(), &value});
    }
  }
  std::reverse(pending.begin() + static_cast<std::ptrdiff_t>(first), pending.end());
}

}  // namespace

std::vector<Leaf> leaves(const Value& root) {
  std::vector<Leaf> found;
  std::vector<Leaf> pending{{"", &root}};
  while (!pending.empty()) {
    const Leaf leaf = std::move(pending.back());
    pending.pop_back();
    if (is_open_container(*leaf.value)) {
      push_items(pending, leaf);
    } else {
      found.push_back(leaf);
    }
  }
  return found;
}

Value read_checkpoint(const std::filesystem::path& file) {
  return load_checkpoint_file(file, {.unknown = UnknownGlobals::keep_opaque});
}

std::string short_text(const Value& value) {
  constexpr std::size_t kMost = 200;
  if (value.is(Value::Type::string) && value.as_string().size() > kMost) {
    return fmt::format("text of {} bytes", value.as_string().size());
  }
  return printable(describe(value));
}

std::string dtype_text(const at::Tensor& tensor) {
  return std::string(name_of_dtype(tensor.scalar_type())) + (tensor.is_sparse() ? " sparse" : "");
}

std::string shape_text(const at::Tensor& tensor) {
  return tensor.dim() == 1 ? fmt::format("({},)", tensor.size(0)) : fmt::format("({})", fmt::join(tensor.sizes(), ", "));
}

std::string size_text(std::uint64_t bytes) {
  if (bytes < 1024) return fmt::format("{} B", bytes);
  double amount = static_cast<double>(bytes);
  const char* unit = "";
  for (const char* larger : {"KiB", "MiB", "GiB", "TiB"}) {
    if (amount < 1024) break;
    amount /= 1024;
    unit = larger;
  }
  return fmt::format("{:.1f} {}", amount, unit);
}

std::vector<at::Tensor> content_parts(const at::Tensor& tensor) {
  if (tensor.is_sparse()) return {tensor._indices().cpu().contiguous(), tensor._values().cpu().contiguous()};
  return {tensor.resolve_conj().resolve_neg().cpu().contiguous()};
}

std::uint64_t content_bytes(const at::Tensor& tensor) {
  if (tensor.is_sparse()) return tensor._indices().nbytes() + tensor._values().nbytes();
  return tensor.nbytes();
}

std::string content_sha256(const at::Tensor& tensor) {
  Sha256 sum;
  for (const at::Tensor& part : content_parts(tensor)) {
    if (part.numel() > 0) sum.update(part.const_data_ptr(), part.nbytes());
  }
  return sum.hex();
}

Totals totals(const std::vector<Leaf>& found) {
  Totals sum;
  for (const Leaf& leaf : found) {
    if (!leaf.value->is(Value::Type::tensor)) {
      ++sum.others;
      continue;
    }
    ++sum.tensors;
    sum.elements += leaf.value->as_tensor().numel();
    sum.bytes += content_bytes(leaf.value->as_tensor());
  }
  return sum;
}

bool has_checksums(const std::filesystem::path& file) {
  std::string begin(zip::kMagic.size(), '\0');
  std::ifstream(file, std::ios::binary).read(begin.data(), static_cast<std::streamsize>(begin.size()));
  return begin == zip::kMagic;
}

}  // namespace treadle

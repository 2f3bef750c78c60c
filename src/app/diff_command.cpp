#include <app/checkpoint_leaves.hpp>
#include <app/diff_command.hpp>
#include <app/terminal.hpp>

#include <c10/util/Exception.h>
#include <fmt/format.h>
#include <CLI/CLI.hpp>

#include <cmath>
#include <cstring>
#include <map>

namespace treadle {
namespace {

/// How far two tensors of one dtype and shape are apart.
struct Distance {
  std::int64_t differing = 0;  // elements of other bits
  std::int64_t elements = 0;
  double largest = 0;       // of the absolute differences; NaN when one side alone is NaN
  bool has_largest = true;  // false for dtypes without arithmetic
};

/// Compares `count` elements from `from` on of flat tensors.
void add_chunk(const at::Tensor& left, const at::Tensor& right, std::int64_t from, std::int64_t count, Distance& distance) {
  const auto size = static_cast<std::size_t>(left.element_size());
  const auto* a = static_cast<const char*>(left.const_data_ptr()) + static_cast<std::size_t>(from) * size;
  const auto* b = static_cast<const char*>(right.const_data_ptr()) + static_cast<std::size_t>(from) * size;
  std::int64_t differing = 0;
  if (std::memcmp(a, b, static_cast<std::size_t>(count) * size) != 0) {
    for (std::int64_t i = 0; i < count; ++i, a += size, b += size) differing += std::memcmp(a, b, size) != 0;
  }
  if (differing == 0) return;
  distance.differing += differing;
  if (!distance.has_largest) return;
  try {
    const auto wide = left.is_complex() ? c10::kComplexDouble : c10::kDouble;
    const at::Tensor one = left.narrow(0, from, count).to(wide), other = right.narrow(0, from, count).to(wide);
    // An infinity or a NaN that both sides have is no difference.
    const at::Tensor same = one.eq(other).logical_or_(one.isnan().logical_and_(other.isnan()));
    const double largest = one.sub(other).abs().masked_fill_(same, 0).max().item().toDouble();
    if (std::isnan(largest) || largest > distance.largest) distance.largest = std::fabs(largest);
  } catch (const c10::Error&) {
    distance.has_largest = false;
  }
}

Distance distance_of(const at::Tensor& left, const at::Tensor& right) {
  constexpr std::int64_t kChunk = 1 << 20;
  Distance distance;
  const std::vector<at::Tensor> lefts = content_parts(left), rights = content_parts(right);
  for (std::size_t part = 0; part < lefts.size(); ++part) {
    const at::Tensor a = lefts[part].reshape({-1}), b = rights[part].reshape({-1});
    distance.elements += a.numel();
    for (std::int64_t from = 0; from < a.numel(); from += kChunk) {
      add_chunk(a, b, from, std::min(kChunk, a.numel() - from), distance);
    }
  }
  return distance;
}

bool comparable(const at::Tensor& left, const at::Tensor& right) {
  if (left.scalar_type() != right.scalar_type() || left.is_sparse() != right.is_sparse() || left.sizes() != right.sizes()) {
    return false;
  }
  return !left.is_sparse() || left._nnz() == right._nnz();
}

/// What sets two leaves of one path apart; empty when nothing does.
std::string difference(const Value& left, const Value& right) {
  if (left.type() != right.type())
    return fmt::format("{} {} and {} {}", to_string(left.type()), short_text(left), to_string(right.type()), short_text(right));
  if (!left.is(Value::Type::tensor)) {
    return identical(left, right) ? "" : fmt::format("{} and {}", short_text(left), short_text(right));
  }
  const at::Tensor &a = left.as_tensor(), &b = right.as_tensor();
  if (!comparable(a, b)) {
    return fmt::format("{} {} and {} {}", dtype_text(a), shape_text(a), dtype_text(b), shape_text(b));
  }
  const Distance distance = distance_of(a, b);
  if (distance.differing == 0)
    return a.is_quantized() && !identical(left, right) ? "equal whole numbers, but quantized in another way" : "";
  std::string text = fmt::format("{} of {} elements differ", distance.differing, distance.elements);
  return distance.has_largest ? text + fmt::format(", by at most {:.6g}", distance.largest) : text;
}

/// Leaves by path. Two leaves may have one path (`a.b` within `a`, or as a key of its own): they are numbered.
std::map<std::pair<std::string, int>, const Value*> by_path(const std::vector<Leaf>& found) {
  std::map<std::pair<std::string, int>, const Value*> paths;
  for (const Leaf& leaf : found) {
    int number = 0;
    while (!paths.emplace(std::pair(leaf.path, number), leaf.value).second) ++number;
  }
  return paths;
}

}  // namespace

CLI::App* add_diff_command(CLI::App& app, DiffArguments& arguments) {
  CLI::App* diff = app.add_subcommand("diff", "Compare two checkpoints: what differs, and by how much.");
  diff->add_option("A", arguments.left, "a checkpoint")->required()->type_name("");
  diff->add_option("B", arguments.right, "the one to compare it with")->required()->type_name("");
  diff->footer(
      "Exit status: 0 equal in every bit, 1 not.\n"
      "Example:\n"
      "  treadle diff output/a/model_final.pth output/b/model_final.pth");
  return diff;
}

int run_diff(const DiffArguments& arguments) {
  const Value left = read_checkpoint(arguments.left), right = read_checkpoint(arguments.right);
  const std::vector<Leaf> left_leaves = leaves(left), right_leaves = leaves(right);
  const auto lefts = by_path(left_leaves), rights = by_path(right_leaves);
  std::size_t differing = 0;
  const auto report = [&](const std::string& path, const std::string& text) {
    ++differing;
    print_line(fmt::format("{}: {}", path.empty() ? "(all)" : printable(path), text));
  };
  for (const Leaf& leaf : left_leaves) {
    if (!rights.contains({leaf.path, 0})) report(leaf.path, fmt::format("only in {}", arguments.left));
  }
  for (const auto& [path, value] : lefts) {
    const auto other = rights.find(path);
    if (other == rights.end()) continue;
    if (const std::string text = difference(*value, *other->second); !text.empty()) report(path.first, text);
  }
  for (const Leaf& leaf : right_leaves) {
    if (!lefts.contains({leaf.path, 0})) report(leaf.path, fmt::format("only in {}", arguments.right));
  }
  if (differing > 0) {
    print_line(fmt::format("{} of {} entries differ", differing, std::max(lefts.size(), rights.size())));
    return 1;
  }
  if (!identical(left, right)) {
    print_line("the entries are equal, but in another order or nesting");
    return 1;
  }
  print_line(fmt::format("equal in every bit: {} entries", lefts.size()));
  return 0;
}

}  // namespace treadle

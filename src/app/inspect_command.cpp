#include <app/checkpoint_leaves.hpp>
#include <app/inspect_command.hpp>
#include <app/terminal.hpp>
#include <app/value_json.hpp>

#include <fmt/format.h>
#include <CLI/CLI.hpp>

#include <algorithm>
#include <filesystem>
#include <nlohmann/json.hpp>

namespace treadle {
namespace {

using Json = nlohmann::ordered_json;

Json json_of_tensor(const Leaf& leaf) {
  const at::Tensor& tensor = leaf.value->as_tensor();
  return {{"name", leaf.path},
          {"dtype", dtype_text(tensor)},
          {"shape", tensor.sizes().vec()},
          {"bytes", content_bytes(tensor)},
          {"sha256", content_sha256(tensor)}};
}

void print_json(const InspectArguments& arguments, const std::vector<Leaf>& found) {
  Json tensors = Json::array(), values = Json::array();
  for (const Leaf& leaf : found) {
    if (leaf.value->is(Value::Type::tensor)) {
      tensors.push_back(json_of_tensor(leaf));
    } else {
      values.push_back({{"name", leaf.path}, {"type", to_string(leaf.value->type())}, {"value", json_of_value(*leaf.value)}});
    }
  }
  const Totals sum = totals(found);
  const Json report = {
      {"file", arguments.file},
      {"file_bytes", std::filesystem::file_size(arguments.file)},
      {"tensors", std::move(tensors)},
      {"values", std::move(values)},
      {"totals", {{"tensors", sum.tensors}, {"elements", sum.elements}, {"bytes", sum.bytes}, {"values", sum.others}}}};
  print(json_text(report));
}

void print_text(const InspectArguments& arguments, const std::vector<Leaf>& found) {
  std::size_t names = 0, shapes = 0, dtypes = 0;
  constexpr std::size_t kWidest = 72;
  for (const Leaf& leaf : found) {
    names = std::max(names, std::min(kWidest, printable(leaf.path).size()));
    if (!leaf.value->is(Value::Type::tensor)) continue;
    shapes = std::max(shapes, shape_text(leaf.value->as_tensor()).size());
    dtypes = std::max(dtypes, dtype_text(leaf.value->as_tensor()).size());
  }
  for (const Leaf& leaf : found) {
    const std::string name = printable(leaf.path);
    if (!leaf.value->is(Value::Type::tensor)) {
      print_line(fmt::format("{:<{}}  {}", name, names, short_text(*leaf.value)));
      continue;
    }
    const at::Tensor& tensor = leaf.value->as_tensor();
    print_line(fmt::format("{:<{}}  {:<{}}  {:<{}}  {:>10}  sha256 {}", name, names, dtype_text(tensor), dtypes,
                           shape_text(tensor), shapes, size_text(content_bytes(tensor)), content_sha256(tensor)));
  }
  const Totals sum = totals(found);
  print_line(fmt::format("{}: {} tensors with {} elements in {} bytes, {} other values; the file has {} bytes, {}",
                         arguments.file, sum.tensors, sum.elements, sum.bytes, sum.others,
                         std::filesystem::file_size(arguments.file),
                         has_checksums(arguments.file) ? "its checksums fit" : "in a format without checksums"));
}

}  // namespace

CLI::App* add_inspect_command(CLI::App& app, InspectArguments& arguments) {
  CLI::App* inspect = app.add_subcommand("inspect", "Show what a checkpoint holds: tensors with their sums, numbers, totals.");
  inspect->add_option("FILE", arguments.file, "checkpoint (.pth, .pt, .pkl, .safetensors)")->required()->type_name("");
  inspect->add_flag("--json", arguments.json, "one JSON object instead of a table");
  inspect->footer(
      "The sum of a tensor is the SHA-256 of its elements in row-major order, little-endian.\n"
      "Nothing in the file is executed; classes that are not data are shown as __opaque__.\n"
      "Example:\n"
      "  treadle inspect output/model_final.pth --json\n"
      "Exit status: 0 done, 1 an error, 2 wrong usage.");
  return inspect;
}

int run_inspect(const InspectArguments& arguments) {
  const Value root = read_checkpoint(arguments.file);
  const std::vector<Leaf> found = leaves(root);
  if (arguments.json) {
    print_json(arguments, found);
  } else {
    print_text(arguments, found);
  }
  return 0;
}

}  // namespace treadle

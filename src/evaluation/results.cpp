#include <treadle/base/errors.hpp>
#include <treadle/base/log.hpp>
#include <treadle/evaluation/results.hpp>

#include <fmt/ranges.h>

#include <algorithm>
#include <cmath>

namespace treadle {
namespace {

void flatten(const Dict& results, const std::string& prefix, std::vector<std::pair<std::string, double>>& flat) {
  for (const auto& entry : results) {
    const std::string name = prefix + entry.key.to_string();
    if (entry.value.is(Value::Type::dict)) {
      flatten(entry.value.as_dict(), name + "/", flat);
    } else if (entry.value.is(Value::Type::real) || entry.value.is(Value::Type::integer)) {
      flat.emplace_back(name, entry.value.as_double());
    } else {
      throw FormatError(fmt::format("the result \"{}\" is no number but {}; an evaluator must return numbers, nested by name",
                                    name, describe(entry.value)));
    }
  }
}

}  // namespace

std::vector<std::pair<std::string, double>> flatten_results_dict(const Dict& results) {
  std::vector<std::pair<std::string, double>> flat;
  flatten(results, "", flat);
  return flat;
}

void print_csv_format(const Dict& results) {
  for (const auto& task : results) {
    if (!task.value.is(Value::Type::dict)) {
      log_info(fmt::format("copypaste: {}={}", task.key.to_string(), describe(task.value)));
      continue;
    }
    std::vector<std::string> names, numbers;
    for (const auto& metric : task.value.as_dict()) {
      // Detectron2 leaves out metrics per category.
      if (metric.key.to_string().find('-') != std::string::npos) continue;
      names.push_back(metric.key.to_string());
      numbers.push_back(fmt::format("{:.4f}", metric.value.as_double()));
    }
    log_info(fmt::format("copypaste: Task: {}", task.key.to_string()));
    log_info(fmt::format("copypaste: {}", fmt::join(names, ",")));
    log_info(fmt::format("copypaste: {}", fmt::join(numbers, ",")));
  }
}

void verify_results(const std::vector<ExpectedResult>& expected, const Dict& results) {
  if (expected.empty()) return;
  const auto flat = flatten_results_dict(results);
  std::vector<std::string> wrong;
  for (const ExpectedResult& each : expected) {
    const std::string name = each.task + "/" + each.metric;
    const auto found = std::ranges::find(flat, name, [](const auto& result) { return result.first; });
    if (found == flat.end()) {
      wrong.push_back(name + " is missing");
    } else if (!(std::fabs(found->second - each.value) <= each.tolerance)) {
      wrong.push_back(fmt::format("{} is {}, expected {} ± {}", name, found->second, each.value, each.tolerance));
    }
  }
  if (!wrong.empty()) throw Error(fmt::format("the results are not the expected ones: {}", fmt::join(wrong, "; ")));
  log_info("Results verification passed.");
}

std::string format_results_table(const Dict& results) {
  const auto flat = flatten_results_dict(results);
  if (flat.empty()) return "";
  std::size_t width = std::string_view("metric").size();
  for (const auto& [name, value] : flat) width = std::max(width, name.size());
  const std::string rule = fmt::format("+{:-<{}}+{:-<14}+", "", width + 2, "");
  std::string table = fmt::format("{}\n| {:<{}} | {:>12} |\n{}\n", rule, "metric", width, "value", rule);
  for (const auto& [name, value] : flat) {
    const bool whole = value == static_cast<double>(static_cast<std::int64_t>(value)) && name.find("num_") != std::string::npos;
    table +=
        fmt::format("| {:<{}} | {:>12} |\n", name, width, whole ? fmt::format("{:.0f}", value) : fmt::format("{:.4f}", value));
  }
  return table + rule;
}

}  // namespace treadle

#include "hooks/operation_table.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cstdlib>
#include <tuple>
#include <unordered_map>

namespace treadle::hooks {
namespace {

class Costs {
 public:
  OperationCost& of(const std::string& name) {
    const auto [found, is_new] = index_.try_emplace(name, costs_.size());
    if (is_new) costs_.push_back({.name = name});
    return costs_[found->second];
  }
  std::vector<OperationCost> take() { return std::move(costs_); }

 private:
  std::unordered_map<std::string, std::size_t> index_;
  std::vector<OperationCost> costs_;
};

std::string duration(std::int64_t ns) {
  if (ns < 1'000'000) return fmt::format("{:.1f} us", static_cast<double>(ns) / 1e3);
  if (ns < 1'000'000'000) return fmt::format("{:.1f} ms", static_cast<double>(ns) / 1e6);
  return fmt::format("{:.2f} s", static_cast<double>(ns) / 1e9);
}

std::string size(std::int64_t bytes) {
  const auto number = static_cast<double>(bytes);
  if (std::abs(number) < 1024) return fmt::format("{} B", bytes);
  if (std::abs(number) < 1024 * 1024) return fmt::format("{:.1f} KiB", number / 1024);
  return fmt::format("{:.1f} MiB", number / 1024 / 1024);
}

}  // namespace

std::vector<OperationCost> operation_costs(std::vector<OperationEvent> events) {
  // Outer operations before those inside them; memory behind the operation that begins at the same time.
  std::stable_sort(events.begin(), events.end(), [](const OperationEvent& a, const OperationEvent& b) {
    return std::tuple(a.thread, a.start_ns, a.is_memory, -a.end_ns) < std::tuple(b.thread, b.start_ns, b.is_memory, -b.end_ns);
  });
  Costs costs;
  std::vector<const OperationEvent*> open;
  for (const OperationEvent& event : events) {
    if (event.on_device && !event.is_memory) {
      OperationCost& cost = costs.of(event.name);
      ++cost.calls;
      cost.device_ns += event.end_ns - event.start_ns;
      continue;
    }
    while (!open.empty() && (open.back()->thread != event.thread || open.back()->end_ns <= event.start_ns)) open.pop_back();
    if (event.is_memory) {
      if (!open.empty()) costs.of(open.back()->name).bytes += event.bytes;
      continue;
    }
    const std::int64_t time = event.end_ns - event.start_ns;
    if (!open.empty()) costs.of(open.back()->name).self_ns -= time;
    OperationCost& cost = costs.of(event.name);
    ++cost.calls;
    cost.self_ns += time;
    cost.total_ns += time;
    open.push_back(&event);
  }
  std::vector<OperationCost> result = costs.take();
  std::stable_sort(result.begin(), result.end(), [](const OperationCost& a, const OperationCost& b) {
    return std::tuple(a.device_ns, a.self_ns) > std::tuple(b.device_ns, b.self_ns);
  });
  return result;
}

std::string operation_table(const std::vector<OperationCost>& costs, std::size_t rows) {
  const bool devices = std::any_of(costs.begin(), costs.end(), [](const OperationCost& cost) { return cost.device_ns > 0; });
  std::string table = fmt::format("{:<40} {:>8} {:>11} {:>11} {:>11}", "operation", "calls", "self", "total", "memory");
  if (devices) table += fmt::format(" {:>11}", "device");
  for (std::size_t i = 0; i < std::min(rows, costs.size()); ++i) {
    const OperationCost& cost = costs[i];
    table += fmt::format("\n{:<40} {:>8} {:>11} {:>11} {:>11}", cost.name.substr(0, 40), cost.calls, duration(cost.self_ns),
                         duration(cost.total_ns), size(cost.bytes));
    if (devices) table += fmt::format(" {:>11}", duration(cost.device_ns));
  }
  return table;
}

}  // namespace treadle::hooks

#include <treadle/base/log.hpp>
#include <treadle/events/common_metric_printer.hpp>
#include <treadle/events/event_storage.hpp>

#include <fmt/format.h>

#include <chrono>
#include <cmath>

#include "events/device_memory.hpp"
#include "events/python_text.hpp"
#include "events/writer_options.hpp"

namespace treadle {
namespace {

constexpr std::int64_t kEtaWindow = 1000;  // iterations whose median time makes the ETA
constexpr double kMiB = 1024.0 * 1024.0;

double steady_seconds() { return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count(); }

std::string medians(const EventStorage& storage, std::string_view part, std::int64_t window) {
  std::string text;
  for (const auto& [name, history] : storage.histories()) {
    if (name.find(part) == std::string::npos) continue;
    if (!text.empty()) text += "  ";
    text += name + ": " + python_general(history->median(history->count_within(window)), 4);
  }
  return text;
}

std::string seconds(const char* label, double value) { return fmt::format("{}: {}  ", label, python_fixed(value, 4)); }

}  // namespace

void validate(const CommonMetricPrinterOptions& options) { check_window(options.window, "CommonMetricPrinterOptions.window"); }

CommonMetricPrinter::CommonMetricPrinter(CommonMetricPrinterOptions options) : options_(std::move(options)) {
  validate(options_);
  if (!options_.clock) options_.clock = steady_seconds;
}

std::string CommonMetricPrinter::eta(EventStorage& storage) {
  if (!options_.max_iter) return {};
  const auto left = static_cast<double>(*options_.max_iter - storage.iter() - 1);
  double eta_seconds = std::nan("");
  if (const HistoryBuffer* time = storage.find_history("time")) {
    eta_seconds = time->median(kEtaWindow) * left;
    storage.put_scalar("eta_seconds", eta_seconds, /*smoothing_hint=*/false);
  } else {
    const double now = options_.clock();
    // A run that went back has no pace yet.
    if (last_write_ && last_write_->first < storage.iter())
      eta_seconds = (now - last_write_->second) / static_cast<double>(storage.iter() - last_write_->first) * left;
    last_write_ = {storage.iter(), now};
  }
  return std::isfinite(eta_seconds) ? fmt::format("eta: {}  ", python_timedelta(eta_seconds)) : std::string();
}

void CommonMetricPrinter::write(EventStorage& storage) {
  if (options_.max_iter && storage.iter() == *options_.max_iter) return;

  std::string times;
  if (const HistoryBuffer* time = storage.find_history("time")) {
    times += seconds("time", time->global_avg()) + seconds("last_time", time->latest());
  }
  if (const HistoryBuffer* wait = storage.find_history("data_time")) {
    times += seconds("data_time", wait->avg(wait->count_within(options_.window))) + seconds("last_data_time", wait->latest());
  }
  const HistoryBuffer* lr = storage.find_history("lr");
  const std::optional<double> memory = peak_device_memory();
  log(options_.level,
      fmt::format(" {}iter: {}  {}  {}  {} lr: {}  {}", eta(storage), storage.iter(), medians(storage, "loss", options_.window),
                  medians(storage, "[metric]", options_.window), times, lr ? python_general(lr->latest(), 5) : "N/A",
                  memory ? "max_mem: " + python_fixed(*memory / kMiB, 0) + "M" : ""));
}

}  // namespace treadle

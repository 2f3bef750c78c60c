#pragma once

#include <treadle/base/log.hpp>
#include <treadle/events/writer.hpp>

#include <functional>
#include <optional>
#include <utility>

namespace treadle {

struct CommonMetricPrinterOptions {
  std::optional<std::int64_t> max_iter{};  ///< where the run ends; without it no ETA is shown
  std::int64_t window = 20;                ///< iterations over which losses are reduced to their median, at least 1
  std::function<double()> clock{};         ///< seconds from any origin, never backwards; empty: the steady clock
  LogLevel level = LogLevel::info;         ///< of its lines
};
/// Throws ConfigError when a field is out of range.
void validate(const CommonMetricPrinterOptions& options);

/// Logs the metrics that every run has in one line, in Detectron2's layout:
///
///      eta: 6:23:01  iter: 14  total_loss: 0.2712    time: 0.2552  last_time: 0.2598   lr: 0.0066667  max_mem: 812M
///
/// Losses are the scalars with "loss" in the name, then come those with "[metric]". Times are in seconds. Memory is the
/// accelerator's peak (absent on the CPU). Puts `eta_seconds` into the storage when `time` is recorded; otherwise it measures
/// from line to line. An ETA that cannot be computed (no iteration since the last line, a time that is not finite) is left out.
/// Says nothing at iteration `max_iter`, the one behind the last, as in Detectron2. Threads as EventWriter.
class CommonMetricPrinter final : public EventWriter {
 public:
  explicit CommonMetricPrinter(CommonMetricPrinterOptions options = {});
  void write(EventStorage& storage) override;

 private:
  std::string eta(EventStorage& storage);

  CommonMetricPrinterOptions options_;
  std::optional<std::pair<std::int64_t, double>> last_write_;  // iteration, clock
};

}  // namespace treadle

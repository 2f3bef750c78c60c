#include "hooks/memory_report.hpp"

#include <treadle/base/errors.hpp>
#include <treadle/base/log.hpp>
#include <treadle/engine/trainer_base.hpp>
#include <treadle/hooks/torch_memory_stats.hpp>

#include <fmt/format.h>

namespace treadle::hooks {

void validate(const TorchMemoryStatsOptions& options) {
  const auto require = [](std::int64_t value, std::int64_t least, const std::string& field) {
    if (value < least) {
      throw ConfigError(fmt::format("TorchMemoryStatsOptions.{} is {}; at least {} is needed", field, value, least),
                        "TorchMemoryStatsOptions." + field);
    }
  };
  require(options.period, 1, "period");
  require(options.max_runs, 0, "max_runs");
}

TorchMemoryStats::TorchMemoryStats(TorchMemoryStatsOptions options) : options_(options) { validate(options_); }

void TorchMemoryStats::before_train(TrainerBase&) { runs_ = 0; }

void TorchMemoryStats::after_step(TrainerBase& trainer) {
  const std::int64_t iteration = trainer.iter();
  const bool due = (iteration + 1) % options_.period == 0 || iteration + 1 == trainer.max_iter();
  if (!due || runs_ >= options_.max_runs) return;
  ++runs_;
  const bool last = runs_ == options_.max_runs;
  if (const auto counters = accelerator_memory()) {
    log_info(memory_line(iteration, *counters));
    if (last) log_info(memory_table(*counters));
    reset_accelerator_peaks();
    return;
  }
  const HostMemory memory = host_memory();
  log_info(memory_line(iteration, memory));
  if (last) log_info(memory_table(memory));
}

}  // namespace treadle::hooks

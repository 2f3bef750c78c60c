#include <treadle/base/errors.hpp>
#include <treadle/launch/launch.hpp>

#include <fmt/format.h>

namespace treadle {
namespace {

void require(bool holds, const char* field, int value, const char* range) {
  if (!holds)
    throw ConfigError(fmt::format("LaunchOptions.{} is {}; {} is needed", field, value, range),
                      fmt::format("LaunchOptions.{}", field));
}

}  // namespace

void validate(const LaunchOptions& options) {
  require(options.num_processes >= 1, "num_processes", options.num_processes, "at least 1");
  require(options.num_machines >= 1, "num_machines", options.num_machines, "at least 1");
  require(options.machine_rank >= 0 && options.machine_rank < options.num_machines, "machine_rank", options.machine_rank,
          "a number from 0 to num_machines - 1");
  require(options.num_processes == 1, "num_processes", options.num_processes, "1 (this version trains in one process)");
  require(options.num_machines == 1, "num_machines", options.num_machines, "1 (this version trains in one process)");
}

int launch(const RankMain& main, const LaunchOptions& options) {
  validate(options);
  return main(make_single_process_group());
}

}  // namespace treadle

#pragma once

#include <string>
#include <vector>

namespace treadle {

class Config;
class Group;

struct SetupOptions {
  std::vector<std::string> command_line;  ///< as typed; logged
  /// A new run begins in the folder: the metrics and the `last_checkpoint` of one before are set aside as `*.previous`.
  bool new_run = false;
};

/// Prepares a process for a run, in this order: OUTPUT_DIR is made and tried (IoError in the first second when it cannot be
/// written); the log goes to the terminal and to `log.txt` (`log.txt.rankN` on other ranks); environment, command line and config
/// are logged and `config.yaml` is written whole; random numbers are seeded with SEED + rank (a negative SEED: at random);
/// TREADLE.THREADS and CUDNN_BENCHMARK are applied. All ranks, from the main thread.
void default_setup(const Config& config, Group& group, const SetupOptions& options = {});

/// One `name: value` a line: versions of Treadle, compiler and LibTorch, CPU capability, threads, devices.
std::string environment_report();

}  // namespace treadle

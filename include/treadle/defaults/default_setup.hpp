#pragma once

#include <filesystem>
#include <string>
#include <vector>

namespace treadle {

class Config;
class Group;

struct SetupOptions {
  std::vector<std::string> command_line{};  ///< as typed; logged
  /// For an evaluation in the folder of a run: `config.yaml` is left as it is, and CUDNN_BENCHMARK is not applied, since a trial
  /// of algorithms pays in training alone.
  bool eval_only = false;
};

/// Prepares a process for a run, in this order: OUTPUT_DIR is made and tried (IoError in the first second when it cannot be
/// written); the log goes to the terminal and to `log.txt` (`log.txt.rankN` on other ranks); TREADLE.THREADS,
/// TREADLE.DETERMINISTIC, CUDNN_BENCHMARK and, where there is an accelerator, FLOAT32_PRECISION are applied; environment, command
/// line and config are logged and `config.yaml` is written whole; random numbers are seeded with SEED + rank (a negative SEED: at
/// random). All ranks, from the main thread. ConfigError names a key whose value is none of those it takes.
void default_setup(const Config& config, Group& group, const SetupOptions& options = {});

/// For a new run in the folder of an earlier one: moves the metrics and the `last_checkpoint` of that into `previous-1` (or the
/// next free number) and warns, so that `metrics.json` holds one history and `--resume` goes on with the right run. Checkpoints
/// stay where they are. Call it when the run is about to begin and everything else has been found good. True when there was such
/// a run. Throws IoError.
bool set_aside_previous_run(const std::filesystem::path& folder);

/// A name and its value a line: versions of Treadle (with its commit) and LibTorch, compiler, operating system, CPU with its
/// capability, threads, memory, devices.
std::string environment_report();

}  // namespace treadle

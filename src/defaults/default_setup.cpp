#include <base/file_errors.hpp>
#include <treadle/base/device.hpp>
#include <treadle/base/errors.hpp>
#include <treadle/base/log.hpp>
#include <treadle/base/rng.hpp>
#include <treadle/comm/group.hpp>
#include <treadle/config/config.hpp>
#include <treadle/defaults/default_setup.hpp>

#include <ATen/Context.h>
#include <ATen/Parallel.h>
#include <fcntl.h>
#include <fmt/ranges.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <random>

namespace treadle {
namespace {

namespace fs = std::filesystem;

constexpr const char* kOtherFolder = "choose another OUTPUT_DIR, or change its permissions";

void write_whole(const fs::path& file, const std::string& text) {
  const fs::path temporary = file.string() + ".tmp";
  errno = 0;
  std::ofstream stream(temporary, std::ios::binary | std::ios::trunc);
  stream << text;
  stream.close();
  std::error_code code(stream ? 0 : (errno != 0 ? errno : EIO), std::generic_category());
  if (!code) fs::rename(temporary, file, code);
  if (!code) return;
  std::error_code ignored;
  fs::remove(temporary, ignored);
  throw IoError("write", file, code.value(), kOtherFolder);
}

/// Permission bits do not tell (root, read-only file systems, full disks), so a file is made.
void make_writable_folder(const fs::path& folder) {
  std::error_code code;
  fs::create_directories(folder, code);
  if (code) throw IoError("create the output folder", folder, code.value(), kOtherFolder);
  const fs::path probe = folder / ".treadle_probe";
  const int descriptor = ::open(probe.c_str(), O_CREAT | O_WRONLY | O_TRUNC | O_CLOEXEC, 0644);
  if (descriptor < 0) throw IoError("write in the output folder", folder, errno, kOtherFolder);
  const bool written = ::write(descriptor, "x", 1) == 1;
  const int number = errno;
  ::close(descriptor);
  fs::remove(probe, code);
  if (!written) throw IoError("write in the output folder", folder, number, kOtherFolder);
}

void open_log(const fs::path& folder, int rank) {
  LogOptions options;
  options.file = folder / (rank == 0 ? "log.txt" : fmt::format("log.txt.rank{}", rank));
  options.console = rank == 0 || stdout_is_apart();
  options.level = LogLevel::debug;
  configure_log(options);
}

void log_block(const std::string& title, const std::string& text) { log_debug(title + "\n" + text); }

/// Which algorithms LibTorch may take, and how exact they are.
void set_numerics(const Config& config, bool eval_only) {
  const std::string& precision = config.get_string("FLOAT32_PRECISION");
  if (!precision.empty() && precision != "highest" && precision != "high" && precision != "medium")
    config.fail("FLOAT32_PRECISION", "expected \"highest\", \"high\", \"medium\" or nothing");
  const bool deterministic = config.get_bool("TREADLE.DETERMINISTIC"), benchmark = config.get_bool("CUDNN_BENCHMARK");
  if (deterministic && benchmark)
    config.fail("CUDNN_BENCHMARK", "cuDNN's choice may differ from run to run; set it or TREADLE.DETERMINISTIC to False");
  at::Context& context = at::globalContext();
  // On the CPU LibTorch would take bfloat16 for "medium"; the setting speaks of an accelerator's units.
  if (!precision.empty() && accelerator_count() > 0) {
    context.setFloat32MatmulPrecision(precision);
    context.setAllowTF32CuDNN(precision != "highest");
  }
  if (!eval_only) context.setBenchmarkCuDNN(benchmark);
  context.setDeterministicAlgorithms(deterministic, /*warn_only=*/false);
  context.setDeterministicCuDNN(deterministic);
  // cuBLAS is deterministic with a work space of its own for each stream. It reads this when it starts.
  if (deterministic) setenv("CUBLAS_WORKSPACE_CONFIG", ":4096:8", /*overwrite=*/0);
}

std::uint64_t seed_of(const Config& config, Group& group) {
  const std::int64_t seed = config.get_int("SEED");
  // Not `shared_random_seed`, which an earlier seed of this process foretells.
  const auto by_chance = [&] { return group.broadcast(static_cast<std::int64_t>(std::random_device()())).as_int(); };
  const auto base = static_cast<std::uint64_t>(seed >= 0 ? seed : by_chance());
  return base + static_cast<std::uint64_t>(group.get_rank());
}

}  // namespace

bool set_aside_previous_run(const fs::path& folder) {
  const fs::path aside = with_io_errors("set aside the earlier run in", folder, [&]() -> fs::path {
    if (!fs::exists(folder / "metrics.json") && !fs::exists(folder / "last_checkpoint")) return {};
    int number = 1;
    while (fs::exists(folder / fmt::format("previous-{}", number))) ++number;
    const fs::path free = folder / fmt::format("previous-{}", number);
    fs::create_directories(free);
    for (const char* name : {"metrics.json", "last_checkpoint"}) {
      if (fs::exists(folder / name)) fs::rename(folder / name, free / name);
    }
    return free;
  });
  if (aside.empty()) return false;
  log_warning(
      fmt::format("\"{}\" holds an earlier run. A new one begins: the metrics.json and last_checkpoint of the old one are now in "
                  "\"{}\", its checkpoints are overwritten where names are equal. Use --resume to go on with a run instead.",
                  folder.string(), aside.filename().string()));
  return true;
}

void default_setup(const Config& config, Group& group, const SetupOptions& options) {
  const fs::path folder = config.get_string("OUTPUT_DIR");
  if (folder.empty()) config.fail("OUTPUT_DIR", "a folder is needed");
  if (group.is_main_process()) make_writable_folder(folder);
  group.synchronize();
  open_log(folder, group.get_rank());

  const std::int64_t threads = config.get_int("TREADLE.THREADS");
  if (threads < 0 || threads > 4096) config.fail("TREADLE.THREADS", "expected 1 to 4096 threads, or 0 for a share of the cores");
  if (threads > 0) at::set_num_threads(static_cast<int>(threads));
  set_numerics(config, options.eval_only);

  log_info(fmt::format("Rank of current process: {}. World size: {}", group.get_rank(), group.get_world_size()));
  log_block("Environment:", environment_report());
  if (!options.command_line.empty()) log_info(fmt::format("Command line: {}", fmt::join(options.command_line, " ")));
  const std::string text = config.dump();
  log_block("Config:", text);
  if (group.is_main_process()) {
    if (!options.eval_only) write_whole(folder / "config.yaml", text);
    log_info(fmt::format("Full config, log and checkpoints are in \"{}\"", folder.string()));
  }

  const std::uint64_t seed = seed_of(config, group);
  log_info(fmt::format("Random seed of this process: {}", seed));
  seed_everything(seed);
}

}  // namespace treadle

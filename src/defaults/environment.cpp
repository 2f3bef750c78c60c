#include <treadle/base/device.hpp>
#include <treadle/defaults/default_setup.hpp>
#include <version.hpp>

#include <ATen/Parallel.h>
#include <ATen/Version.h>
#include <ATen/core/Tensor.h>
#include <fmt/format.h>
#include <sys/utsname.h>
#include <torch/version.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <string_view>
#include <thread>

namespace treadle {
namespace {

/// The value of the first `name: value` in a file of /proc; empty when there is none.
std::string field_of(const std::filesystem::path& file, std::string_view name) {
  std::ifstream lines(file);
  for (std::string line; std::getline(lines, line);) {
    const std::size_t colon = line.find(':');
    const std::size_t value = colon == std::string::npos ? colon : line.find_first_not_of(" \t", colon + 1);
    if (line.starts_with(name) && value != std::string::npos) return line.substr(value);
  }
  return {};
}

std::string cpu_model() {
  const std::string name = field_of("/proc/cpuinfo", "model name");
  return name.empty() ? "unknown" : name;
}

std::string operating_system() {
  utsname system{};
  return uname(&system) == 0 ? fmt::format("{} {} {}", system.sysname, system.release, system.machine) : "unknown";
}

std::string memory() {
  const auto pages = static_cast<double>(sysconf(_SC_PHYS_PAGES)), page = static_cast<double>(sysconf(_SC_PAGE_SIZE));
  return fmt::format("{:.1f} GiB", pages * page / (1 << 30));
}

/// LibTorch has no name of a device that works for all of them; NVIDIA's driver lists its own.
std::string devices() {
  const int count = accelerator_count();
  if (count == 0) return "CPU only";
  std::string text = fmt::format("{} x {}", count, default_device(0).type() == c10::kCUDA ? "CUDA" : default_device(0).str());
  std::error_code code;
  for (const auto& card : std::filesystem::directory_iterator("/proc/driver/nvidia/gpus", code)) {
    if (const std::string name = field_of(card.path() / "information", "Model"); !name.empty()) text += ", " + name;
  }
  return text;
}

}  // namespace

std::string environment_report() {
  std::string report;
  const auto line = [&](std::string_view name, const std::string& value) { report += fmt::format("{:<15}{}\n", name, value); };
  line("treadle", fmt::format("{}, commit {}", kVersion, kCommit[0] ? kCommit : "unknown"));
  line("LibTorch", TORCH_VERSION);
  line("compiler", __VERSION__);
  line("system", operating_system());
  line("CPU", fmt::format("{} x {}, {}", std::thread::hardware_concurrency(), cpu_model(), at::get_cpu_capability()));
  line("memory", memory());
  line("threads", fmt::format("{} in an operator, {} between operators", at::get_num_threads(), at::get_num_interop_threads()));
  line("devices", devices());
  report.pop_back();
  return report;
}

}  // namespace treadle

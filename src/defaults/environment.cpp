#include <treadle/base/device.hpp>
#include <treadle/defaults/default_setup.hpp>
#include <version.hpp>

#include <ATen/Parallel.h>
#include <ATen/Version.h>
#include <ATen/core/Tensor.h>
#include <fmt/format.h>
#include <torch/version.h>

#include <fstream>
#include <string_view>

namespace treadle {
namespace {

std::string cpu_model() {
  std::ifstream info("/proc/cpuinfo");
  constexpr std::string_view key = "model name";
  for (std::string line; std::getline(info, line);) {
    const std::size_t colon = line.find(": ");
    if (line.starts_with(key) && colon != std::string::npos) return line.substr(colon + 2);
  }
  return "unknown";
}

}  // namespace

std::string environment_report() {
  std::string report;
  const auto line = [&](std::string_view name, const std::string& value) { report += fmt::format("{:<15}{}\n", name, value); };
  line("treadle", fmt::format("{}{}", kVersion, kCommit[0] ? fmt::format(" ({})", kCommit) : ""));
  line("LibTorch", TORCH_VERSION);
  line("compiler", __VERSION__);
  line("CPU", fmt::format("{}, {}", cpu_model(), at::get_cpu_capability()));
  line("threads", fmt::format("{} in an operator, {} between operators", at::get_num_threads(), at::get_num_interop_threads()));
  line("accelerators", std::to_string(accelerator_count()));
  report.pop_back();
  return report;
}

}  // namespace treadle

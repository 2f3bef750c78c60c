#include <treadle/base/errors.hpp>
#include <treadle/launch/started_rank.hpp>

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <cstdlib>
#include <limits>
#include <string_view>
#include <utility>

namespace treadle {
namespace {

/// Variables of one environment, with errors that name them.
class Variables {
 public:
  Variables(const EnvironmentReader& read, std::string by) : read_(read), by_(std::move(by)) {}

  std::string text(const std::string& name) const {
    const auto value = read_(name);
    if (!value) throw ConfigError(fmt::format("{} started this process, but {} is not in its environment", by_, name), name);
    return *value;
  }
  template <class T = int>
  T number(const std::string& name, T least, T limit) const {
    const std::string value = text(name);
    T result = 0;
    const auto [end, error] = std::from_chars(value.data(), value.data() + value.size(), result);
    if (error != std::errc() || end != value.data() + value.size() || result < least || result >= limit) {
      throw ConfigError(fmt::format("{} left {}=\"{}\" in the environment; a number from {} to {} is needed", by_, name, value,
                                    least, limit - 1),
                        name);
    }
    return result;
  }
  int number_or(const std::string& name, int otherwise) const { return read_(name) ? number(name, 0, kLimit) : otherwise; }
  bool has(const std::string& name) const { return read_(name).has_value(); }
  std::string text_or(const std::string& name, const std::string& otherwise) const { return read_(name).value_or(otherwise); }
  /// From MASTER_ADDR and MASTER_PORT; empty without them.
  std::string master() const {
    if (!has("MASTER_ADDR") || !has("MASTER_PORT")) return {};
    const std::string host = text("MASTER_ADDR");
    const bool brackets = host.find(':') != std::string::npos;
    return fmt::format("tcp://{}{}{}:{}", brackets ? "[" : "", host, brackets ? "]" : "", number("MASTER_PORT", 1, 65536));
  }

  static constexpr int kLimit = 1 << 24;

 private:
  const EnvironmentReader& read_;
  std::string by_;
};

StartedRank by_torchrun(const Variables& variables) {
  StartedRank started{.by = "torchrun"};
  started.world_size = variables.number("WORLD_SIZE", 1, Variables::kLimit);
  started.rank = variables.number("RANK", 0, started.world_size);
  started.local_size = variables.number("LOCAL_WORLD_SIZE", 1, started.world_size + 1);
  started.local_rank = variables.number("LOCAL_RANK", 0, started.local_size);
  variables.text("MASTER_ADDR");
  variables.text("MASTER_PORT");
  started.dist_url = variables.master();
  started.store_runs = variables.has("TORCHELASTIC_USE_AGENT_STORE") && variables.text("TORCHELASTIC_USE_AGENT_STORE") == "True";
  started.generation = variables.number_or("TORCHELASTIC_RESTART_COUNT", 0);
  // The name that is given to every run without one tells nothing.
  if (const std::string run = variables.text_or("TORCHELASTIC_RUN_ID", "none"); run != "none") started.run = "torchrun " + run;
  return started;
}

/// The number of tasks on node `node` in Slurm's short form: `2(x3),1` is 2, 2, 2, 1.
int tasks_on_node(std::string_view text, int node) {
  while (!text.empty()) {
    int tasks = 0, times = 1;
    auto [at, error] = std::from_chars(text.data(), text.data() + text.size(), tasks);
    if (error != std::errc()) return 0;
    text.remove_prefix(static_cast<std::size_t>(at - text.data()));
    if (text.starts_with("(x")) {
      const auto [behind, problem] = std::from_chars(text.data() + 2, text.data() + text.size(), times);
      if (problem != std::errc()) return 0;
      text.remove_prefix(std::min(text.size(), static_cast<std::size_t>(behind - text.data()) + 1));
    }
    if (node < times) return tasks;
    node -= times;
    if (text.starts_with(',')) text.remove_prefix(1);
  }
  return 0;
}

/// The first host of a list such as `node[03-05,9],login`.
std::string first_host(std::string_view list) {
  const std::string_view name = list.substr(0, list.find_first_of("[,"));
  if (name.size() == list.size() || list[name.size()] != '[') return std::string(name);
  const std::string_view range = list.substr(name.size() + 1);
  const std::size_t end = range.find(']');
  std::string_view behind = end == std::string_view::npos ? std::string_view() : range.substr(end + 1);
  behind = behind.substr(0, behind.find(','));
  return std::string(name) + std::string(range.substr(0, range.find_first_of("-,]"))) + std::string(behind);
}

StartedRank by_srun(const Variables& variables) {
  StartedRank started{.by = "srun"};
  started.world_size = variables.number("SLURM_STEP_NUM_TASKS", 1, Variables::kLimit);
  started.rank = variables.number("SLURM_PROCID", 0, started.world_size);
  const std::string tasks = variables.text("SLURM_STEP_TASKS_PER_NODE");
  started.local_size = tasks_on_node(tasks, variables.number("SLURM_NODEID", 0, Variables::kLimit));
  if (started.local_size < 1) {
    throw ConfigError(
        fmt::format("srun left SLURM_STEP_TASKS_PER_NODE=\"{}\" in the environment, which tells no tasks of node {}", tasks,
                    variables.text("SLURM_NODEID")),
        "SLURM_STEP_TASKS_PER_NODE");
  }
  started.local_rank = variables.number("SLURM_LOCALID", 0, started.local_size);
  started.dist_url = variables.master();
  // Steps that are not numbered one after the other, as that of an interactive shell, have numbers near 2^32.
  constexpr auto limit = std::numeric_limits<std::int64_t>::max();
  const auto step = variables.has("SLURM_STEP_ID") ? variables.number<std::int64_t>("SLURM_STEP_ID", 0, limit) : 0;
  if (started.dist_url.empty()) {
    // Below the ports that the system hands out by itself, and the same on all nodes. A step is far from those of the next jobs,
    // which may run on the same node.
    constexpr std::int64_t first_port = 15000, ports = 15000, between_steps = 1009;
    const auto job = variables.number<std::int64_t>("SLURM_JOB_ID", 0, limit);
    const std::int64_t port = first_port + (job % ports + step % ports * between_steps) % ports;
    started.dist_url = fmt::format("tcp://{}:{}", first_host(variables.text("SLURM_STEP_NODELIST")), port);
  }
  // The parts of a heterogeneous job have numbers of their own.
  if (variables.has("SLURM_JOB_ID") && !variables.has("SLURM_HET_SIZE"))
    started.run = fmt::format("step {}.{}", variables.text("SLURM_JOB_ID"), step);
  return started;
}

StartedRank by_mpirun(const Variables& variables) {
  StartedRank started{.by = "mpirun"};
  started.world_size = variables.number("OMPI_COMM_WORLD_SIZE", 1, Variables::kLimit);
  started.rank = variables.number("OMPI_COMM_WORLD_RANK", 0, started.world_size);
  started.local_size = variables.number("OMPI_COMM_WORLD_LOCAL_SIZE", 1, started.world_size + 1);
  started.local_rank = variables.number("OMPI_COMM_WORLD_LOCAL_RANK", 0, started.local_size);
  started.dist_url = variables.master();
  if (variables.has("PMIX_NAMESPACE")) started.run = "mpirun " + variables.text("PMIX_NAMESPACE");
  return started;
}

}  // namespace

std::optional<std::string> read_environment(const std::string& name) {
  const char* value = std::getenv(name.c_str());
  return value == nullptr ? std::nullopt : std::optional<std::string>(value);
}

std::optional<StartedRank> started_rank(const EnvironmentReader& environment) {
  if (environment("RANK") && environment("WORLD_SIZE")) return by_torchrun({environment, "torchrun"});
  // In a job of Slurm mpirun has srun start its daemons, whose environment the ranks inherit.
  if (environment("OMPI_COMM_WORLD_RANK")) return by_mpirun({environment, "mpirun"});
  // A batch script has SLURM_PROCID too; only srun counts the tasks of a step.
  if (environment("SLURM_PROCID") && environment("SLURM_STEP_NUM_TASKS")) return by_srun({environment, "srun"});
  return std::nullopt;
}

}  // namespace treadle

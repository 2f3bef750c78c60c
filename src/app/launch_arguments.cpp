#include <app/launch_arguments.hpp>
#include <app/run_lock.hpp>
#include <treadle/base/errors.hpp>
#include <treadle/comm/group.hpp>
#include <treadle/defaults/default_setup.hpp>
#include <treadle/launch/agreement.hpp>

#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <optional>

namespace treadle {
namespace {

LaunchOptions launch_options(const DefaultArguments& arguments, const Config& config) {
  LaunchOptions options;
  options.num_processes = arguments.num_gpus;
  options.num_machines = arguments.num_machines;
  options.machine_rank = arguments.machine_rank;
  options.dist_url = arguments.dist_url;
  options.max_restarts = arguments.max_restarts;
  options.timeout = std::chrono::ceil<std::chrono::milliseconds>(std::chrono::duration<double>(arguments.dist_timeout));
  options.check_order = arguments.check_order;
  options.log_folder = config.get_string("OUTPUT_DIR");
  return options;
}

/// Every setting, for comparing those of all ranks. OUTPUT_DIR may differ from machine to machine, as may the folder of data.
Dict facts_of(const Config& config) {
  Dict facts;
  for (const std::string& key : config.keys()) {
    if (key != "OUTPUT_DIR" && key != "TREADLE.DATA_DIR") facts.set(key, config.at(key));
  }
  return facts;
}

/// Before anything is written: a rank that fails first ends the others in the middle of what they write.
void require_divisible_batch(const Config& config, int ranks) {
  const std::int64_t batch = config.get_int("SOLVER.IMS_PER_BATCH"), scaled_from = config.get_int("SOLVER.REFERENCE_WORLD_SIZE");
  if ((scaled_from != 0 && scaled_from != ranks) || batch % ranks == 0) return;
  config.fail("SOLVER.IMS_PER_BATCH", fmt::format("must be a multiple of the number of ranks, {}, found {}", ranks, batch));
}

/// `launch`, with what is wrong with its options in the words of the command line.
int launch_as_told(const RankMain& main, const LaunchOptions& options) {
  try {
    return launch(main, options);
  } catch (const ConfigError& error) {
    const std::string field = "LaunchOptions.", text = error.what();
    if (!error.key().starts_with(field) || !text.starts_with(error.key())) throw;
    std::string name = "--" + error.key().substr(field.size());
    std::replace(name.begin(), name.end(), '_', '-');
    throw ConfigError(name + text.substr(error.key().size()), name);
  }
}

}  // namespace

std::string shell_word(const std::string& word) {
  constexpr const char* kPlain = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_./:=,@%+-";
  if (!word.empty() && word.find_first_not_of(kPlain) == std::string::npos) return word;
  std::string text = "'";
  for (const char letter : word) {
    if (letter == '\'') text += "'\\'";  // ends the quotes and begins them anew, since nothing is escaped inside
    text += letter;
  }
  return text + "'";
}

std::string launch_words(const DefaultArguments& arguments) {
  const DefaultArguments defaults;
  std::string text;
  const auto add = [&](const char* option, const auto& value, const auto& otherwise) {
    if (value != otherwise) text += fmt::format(" {} {}", option, shell_word(fmt::format("{}", value)));
  };
  add("--num-processes", arguments.num_gpus, defaults.num_gpus);
  add("--num-machines", arguments.num_machines, defaults.num_machines);
  add("--machine-rank", arguments.machine_rank, defaults.machine_rank);
  add("--dist-url", arguments.dist_url, defaults.dist_url);
  add("--max-restarts", arguments.max_restarts, defaults.max_restarts);
  add("--dist-timeout", arguments.dist_timeout, defaults.dist_timeout);
  if (arguments.check_order) text += " --check-order";
  return text;
}

int run_on_all_ranks(const RunArguments& arguments, const Config& config, bool eval_only, const RankMain& main) {
  const auto on_rank = [&](const std::shared_ptr<Group>& group) {
    require_agreement(*group, "config", facts_of(config));
    if (!eval_only) require_divisible_batch(config, group->get_world_size());
    // An evaluation may look into the folder of a run that goes on.
    std::optional<RunLock> lock;
    if (!eval_only && group->is_main_process()) lock.emplace(config.get_string("OUTPUT_DIR"));
    default_setup(config, *group, {.command_line = arguments.command_line, .eval_only = eval_only});
    return main(group);
  };
  return launch_as_told(on_rank, launch_options(arguments, config));
}

}  // namespace treadle

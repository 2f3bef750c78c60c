#pragma once

#include <treadle/config/config.hpp>

#include <memory>
#include <string>
#include <vector>

namespace CLI {
class App;
}

namespace treadle {

/// What Detectron2's argument parser gives, and how long processes wait for each other and how often they start again.
struct DefaultArguments {
  std::string config_file{};             ///< empty for the defaults
  bool resume = false;                   ///< go on from the last checkpoint of OUTPUT_DIR
  bool eval_only = false;                ///< evaluate, train nothing
  int num_gpus = 1;                      ///< processes on each machine, one for each accelerator
  int num_machines = 1;                  ///< machines that train together
  int machine_rank = 0;                  ///< the number of this one, from 0
  std::string dist_url = "auto";         ///< where the processes meet: see LaunchOptions::dist_url
  int max_restarts = 0;                  ///< how often all start again after one has failed
  double dist_timeout = 1800;            ///< seconds that a process waits for another at a time
  bool check_order = false;              ///< for debugging: see LaunchOptions::check_order
  std::vector<std::string> overrides{};  ///< KEY VALUE KEY VALUE …
};

/// Detectron2's parser for a program's own main: --config-file, --resume, --eval-only, --num-gpus (or --num-processes),
/// --num-machines, --machine-rank, --dist-url, with --max-restarts, --dist-timeout and --check-order, and behind them overrides.
/// `arguments` is filled by parsing and must outlive the parser. Add options of your own to what is returned (a CLI11
/// `CLI::App`):
///
///     DefaultArguments arguments;
///     auto parser = default_argument_parser(arguments);
///     CLI11_PARSE(*parser, argc, argv);
///     Config config = read_config(arguments);
///
/// Parsing throws CLI::ParseError for wrong usage: an unknown option, a number out of range.
std::shared_ptr<CLI::App> default_argument_parser(DefaultArguments& arguments, const std::string& epilog = {});

/// Gives `command`, such as a subcommand, the options of `default_argument_parser`.
void add_default_arguments(CLI::App& command, DefaultArguments& arguments);

/// Those alone that say which processes run: --num-gpus and what stands behind it above.
void add_launch_arguments(CLI::App& command, DefaultArguments& arguments);

/// Adds --config-file and overrides alone, for a command with other options. Both arguments must outlive parsing.
void add_config_arguments(CLI::App& command, std::string& config_file, std::vector<std::string>& overrides);

/// The defaults, then the file, then the overrides, not frozen. Throws as Config's merges do.
Config read_config(const std::string& config_file, const std::vector<std::string>& overrides);
Config read_config(const DefaultArguments& arguments);

}  // namespace treadle

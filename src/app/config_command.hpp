#pragma once

#include <app/config_arguments.hpp>

#include <string>
#include <vector>

namespace treadle {

/// The arguments of `treadle config`.
struct ConfigCommandArguments : ConfigArguments {
  bool json = false;
  bool origin = false;
  std::vector<std::string> diff;  ///< two files, or none
};

/// Adds the subcommand to `app`; parsing fills `arguments`, which must outlive it.
CLI::App* add_config_command(CLI::App& app, ConfigCommandArguments& arguments);

/// Prints a merged config, or compares two; the exit status.
int run_config(const ConfigCommandArguments& arguments);

}  // namespace treadle

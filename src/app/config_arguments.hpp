#pragma once

#include <treadle/config/config.hpp>

#include <string>
#include <vector>

namespace CLI {
class App;
}

namespace treadle {

/// What every subcommand that reads a config takes, with Detectron2's names.
struct ConfigArguments {
  std::string config_file;             ///< empty for the defaults
  std::vector<std::string> overrides;  ///< KEY VALUE …
};

/// Adds them to `command`; parsing fills `arguments`, which must outlive it.
void add_config_arguments(CLI::App& command, ConfigArguments& arguments);

/// The defaults, then the file, then the overrides. Throws as Config's merges do.
Config read_config(const ConfigArguments& arguments);

}  // namespace treadle

#include <app/config_arguments.hpp>
#include <treadle/defaults/default_argument_parser.hpp>

namespace treadle {

void add_config_arguments(CLI::App& command, ConfigArguments& arguments) {
  add_config_arguments(command, arguments.config_file, arguments.overrides);
}

Config read_config(const ConfigArguments& arguments) { return read_config(arguments.config_file, arguments.overrides); }

}  // namespace treadle

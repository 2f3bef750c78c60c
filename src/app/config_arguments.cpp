#include <app/config_arguments.hpp>
#include <treadle/config/defaults.hpp>

#include <CLI/CLI.hpp>

#include <span>

namespace treadle {

void add_config_arguments(CLI::App& command, ConfigArguments& arguments) {
  command.add_option("--config-file", arguments.config_file, "YAML file of settings")->type_name("FILE");
  command.add_option("overrides", arguments.overrides, "settings that replace those of the file: KEY VALUE KEY VALUE …")
      ->type_name("KEY VALUE");
  command.positionals_at_end();
}

Config read_config(const ConfigArguments& arguments) {
  Config config = default_config();
  if (!arguments.config_file.empty()) config.merge_from_file(arguments.config_file);
  config.merge_from_list(std::span<const std::string>(arguments.overrides));
  return config;
}

}  // namespace treadle

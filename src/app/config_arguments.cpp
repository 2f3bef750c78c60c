#include <app/config_arguments.hpp>
#include <treadle/config/defaults.hpp>

#include <CLI/CLI.hpp>

#include <span>

namespace treadle {

void add_config_arguments(CLI::App& command, ConfigArguments& arguments) {
  command.add_option("--config-file", arguments.config_file, "YAML file of settings")->type_name("FILE");
  // No positional option: CLI11 would take a value in brackets, such as a list, apart.
  command.allow_extras();
  command.description(command.get_description() + "\nKEY VALUE KEY VALUE … are settings that replace those of the file.");
  command.parse_complete_callback([&command, &arguments] {
    arguments.overrides = command.remaining();
    for (std::size_t key = 0; key < arguments.overrides.size(); key += 2) {
      if (arguments.overrides[key].starts_with("-")) throw CLI::ExtrasError(command.get_name(), {arguments.overrides[key]});
    }
  });
}

Config read_config(const ConfigArguments& arguments) {
  Config config = default_config();
  if (!arguments.config_file.empty()) config.merge_from_file(arguments.config_file);
  config.merge_from_list(std::span<const std::string>(arguments.overrides));
  return config;
}

}  // namespace treadle

#include <treadle/config/defaults.hpp>
#include <treadle/defaults/default_argument_parser.hpp>

#include <CLI/CLI.hpp>

#include <span>

namespace treadle {

void add_config_arguments(CLI::App& command, std::string& config_file, std::vector<std::string>& overrides) {
  command.add_option("--config-file", config_file, "YAML file of settings")->type_name("FILE");
  // No positional option: CLI11 would take a value in brackets, such as a list, apart.
  command.allow_extras();
  command.description(command.get_description() + "\nKEY VALUE KEY VALUE … are settings that replace those of the file.");
  command.parse_complete_callback([&command, &overrides] {
    overrides = command.remaining();
    for (std::size_t key = 0; key < overrides.size(); key += 2) {
      if (overrides[key].starts_with("-")) throw CLI::ExtrasError(command.get_name(), {overrides[key]});
    }
  });
}

void add_launch_arguments(CLI::App& command, DefaultArguments& arguments) {
  const auto number = [&](const char* name, int& value, int least, const char* text) {
    command.add_option(name, value, text)
        ->check(CLI::Range(least, 1 << 20).description(""))
        ->type_name("N")
        ->capture_default_str();
  };
  number("--num-processes,--num-gpus", arguments.num_gpus, 0, "processes on each machine, one for each accelerator");
  number("--num-machines", arguments.num_machines, 1, "machines on which this command is given");
  number("--machine-rank", arguments.machine_rank, 0, "the number of this one, from 0");
  command
      .add_option("--dist-url", arguments.dist_url,
                  "where processes meet: tcp://HOST:PORT of machine 0, file:///PATH, env://, auto")
      ->type_name("URL")
      ->capture_default_str();
  number("--max-restarts", arguments.max_restarts, 0, "after a failure all start again from the newest checkpoint, so often");
  command.add_option("--dist-timeout", arguments.dist_timeout, "seconds that a process waits for another at a time")
      ->type_name("S")
      ->check(CLI::Range(0.001, 1e7).description(""))
      ->default_str("1800");
  command.add_flag("--check-order", arguments.check_order,
                   "for debugging: processes that call different things are told so at once, with the calls before");
}

void add_default_arguments(CLI::App& command, DefaultArguments& arguments) {
  add_config_arguments(command, arguments.config_file, arguments.overrides);
  command.add_flag("--resume", arguments.resume, "go on from the last checkpoint in OUTPUT_DIR");
  command.add_flag("--eval-only", arguments.eval_only,
                   "evaluate MODEL.WEIGHTS (with --resume: the last checkpoint), train nothing");
  add_launch_arguments(command, arguments);
}

std::shared_ptr<CLI::App> default_argument_parser(DefaultArguments& arguments, const std::string& epilog) {
  auto parser = std::make_shared<CLI::App>("Train a model, or evaluate it.");
  add_default_arguments(*parser, arguments);
  parser->footer(epilog.empty() ? "Examples:\n"
                                  "  --config-file cfg.yaml --num-gpus 8\n"
                                  "  --config-file cfg.yaml MODEL.WEIGHTS weights.pth SOLVER.BASE_LR 0.001\n"
                                  "  --config-file cfg.yaml --num-machines 2 --machine-rank 0 --dist-url tcp://host:port"
                                : epilog);
  return parser;
}

Config read_config(const std::string& config_file, const std::vector<std::string>& overrides) {
  Config config = default_config();
  if (!config_file.empty()) config.merge_from_file(config_file);
  config.merge_from_list(std::span<const std::string>(overrides));
  return config;
}

Config read_config(const DefaultArguments& arguments) { return read_config(arguments.config_file, arguments.overrides); }

}  // namespace treadle

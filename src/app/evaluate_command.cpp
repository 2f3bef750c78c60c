#include <app/evaluate_command.hpp>
#include <app/terminal.hpp>
#include <app/value_json.hpp>
#include <treadle/comm/group.hpp>
#include <treadle/defaults.hpp>
#include <treadle/evaluation/results.hpp>

#include <CLI/CLI.hpp>

#include <nlohmann/json.hpp>
#include <optional>

namespace treadle {

int evaluate(const Config& config, const std::shared_ptr<Group>& group, bool resume, bool json) {
  const std::vector<ExpectedResult> expected = expected_results(config);
  const Dict results = evaluate_weights(config, group, resume);
  if (!group->is_main_process()) return 0;
  print(json ? json_text(json_of_value(results)) : "\n" + format_results_table(results) + "\n");
  verify_results(expected, results);
  return 0;
}

CLI::App* add_evaluate_command(CLI::App& app, EvaluateArguments& arguments) {
  CLI::App* command = app.add_subcommand("evaluate", "Evaluate the model of a config on its test data sets.");
  add_config_arguments(*command, arguments.config_file, arguments.overrides);
  command->add_flag("--resume", arguments.resume, "evaluate the last checkpoint of OUTPUT_DIR instead of MODEL.WEIGHTS");
  command->add_flag("--json", arguments.json, "only the results, as one JSON object; warnings go to stderr");
  add_launch_arguments(*command, arguments);
  command->footer(
      "Example:\n"
      "  treadle evaluate --config-file configs/fashion_mnist_cnn.yaml MODEL.WEIGHTS output/try/model_final.pth --json\n"
      "Many processes: docs/distributed.md; the results are those of one.\n"
      "Exit status: 0 done, 1 an error, or results that are not those of TEST.EXPECTED_RESULTS, 2 wrong usage.");
  return command;
}

int run_evaluate(const EvaluateArguments& arguments) {
  std::optional<LogToStderr> log;
  if (arguments.json) log.emplace();
  Config config = read_config(arguments);
  config.freeze();
  return run_on_all_ranks(arguments, config, /*eval_only=*/true, [&](const std::shared_ptr<Group>& group) {
    return evaluate(config, group, arguments.resume, arguments.json);
  });
}

}  // namespace treadle

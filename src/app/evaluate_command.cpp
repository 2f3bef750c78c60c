#include <app/evaluate_command.hpp>
#include <app/terminal.hpp>
#include <app/value_json.hpp>
#include <treadle/base/errors.hpp>
#include <treadle/comm/group.hpp>
#include <treadle/defaults.hpp>
#include <treadle/evaluation/results.hpp>
#include <treadle/models/model.hpp>
#include <treadle/models/sync_batch_norm.hpp>

#include <CLI/CLI.hpp>

#include <nlohmann/json.hpp>
#include <optional>

namespace treadle {

int evaluate(const Config& config, const std::shared_ptr<Group>& group, bool resume, bool json) {
  const Builders builders = default_builders();
  refuse_unsupported(config);
  const std::vector<ExpectedResult> expected = expected_results(config);
  Tester tester(config, group, builders);
  if (tester.empty()) config.fail("DATASETS.TEST", "there is nothing to evaluate on");
  const auto model = builders.model(config);
  set_sync_batch_norm_group(*model, group);
  model->to(device_option(config, group->get_local_rank()));
  DetectionCheckpointer checkpointer(*model, config.get_string("OUTPUT_DIR"), checkpointer_options(*model, group));
  if (config.get_string("MODEL.WEIGHTS").empty() && !(resume && checkpointer.has_checkpoint())) {
    if (resume) config.fail("OUTPUT_DIR", "there is no checkpoint to evaluate in this folder");
    throw ConfigError(
        "there are no weights to evaluate: set MODEL.WEIGHTS to a checkpoint, or add --resume to take the last one of OUTPUT_DIR",
        "MODEL.WEIGHTS");
  }
  checkpointer.resume_or_load(config.get_string("MODEL.WEIGHTS"), resume);
  const Dict results = tester.test(*model);
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
  return run_on_all_ranks(arguments, config, /*write_config=*/false, [&](const std::shared_ptr<Group>& group) {
    return evaluate(config, group, arguments.resume, arguments.json);
  });
}

}  // namespace treadle

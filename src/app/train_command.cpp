#include <app/signals.hpp>
#include <app/train_command.hpp>
#include <treadle/base/errors.hpp>
#include <treadle/base/log.hpp>
#include <treadle/comm/group.hpp>
#include <treadle/defaults.hpp>
#include <treadle/evaluation/results.hpp>
#include <treadle/launch/launch.hpp>
#include <treadle/models/model.hpp>

#include <fmt/format.h>
#include <CLI/CLI.hpp>

#include <atomic>
#include <csignal>
#include <cstdio>
#include <filesystem>

namespace treadle {
namespace {

constexpr int kSignalStatus = 128;  // the shell's convention: 128 + number of the signal

std::string quoted(const std::string& word) {
  return word.empty() || word.find_first_of(" ()[]{}'\"$*") != std::string::npos ? "\"" + word + "\"" : word;
}

/// The command that a user would type to go on from here: as this one, with `flag` and the setting `key` `value`.
std::string command(const TrainArguments& arguments, const std::string& flag, const std::string& key = "",
                    const std::string& value = "") {
  std::string text = arguments.command_line.front() + " train";
  if (!arguments.config_file.empty()) text += " --config-file " + quoted(arguments.config_file);
  text += " " + flag;
  for (std::size_t i = 0; i + 1 < arguments.overrides.size(); i += 2) {
    if (arguments.overrides[i] != key) text += " " + arguments.overrides[i] + " " + quoted(arguments.overrides[i + 1]);
  }
  return key.empty() ? text : text + " " + key + " " + quoted(value);
}

void say(const std::string& text) {
  std::fwrite(text.data(), 1, text.size(), stdout);
  std::fputc('\n', stdout);
  std::fflush(stdout);
}

void say_results(const Dict& results) {
  if (!results.empty()) say("\n" + format_results_table(results));
}

int evaluate(const Config& config, const std::shared_ptr<Group>& group, bool resume) {
  const Builders builders = default_builders();
  refuse_unsupported(config);
  Tester tester(config, group, builders);
  if (tester.empty()) config.fail("DATASETS.TEST", "there is nothing to evaluate on");
  const auto model = builders.model(config);
  model->to(device_option(config, group->get_local_rank()));
  DetectionCheckpointer checkpointer(*model, config.get_string("OUTPUT_DIR"),
                                     {.group = group, .non_persistent = model->non_persistent()});
  if (config.get_string("MODEL.WEIGHTS").empty() && !(resume && checkpointer.has_checkpoint())) {
    throw ConfigError(
        "there are no weights to evaluate: set MODEL.WEIGHTS to a checkpoint, or add --resume to take the last one of OUTPUT_DIR",
        "MODEL.WEIGHTS");
  }
  checkpointer.resume_or_load(config.get_string("MODEL.WEIGHTS"), resume);
  say_results(tester.test(*model));
  return 0;
}

void say_how_to_go_on(const TrainArguments& arguments, const Config& config) {
  const std::int64_t iterations = config.get_int("SOLVER.MAX_ITER");
  const std::string& folder = config.get_string("OUTPUT_DIR");
  say(fmt::format("\nTrained {} iterations; everything is in \"{}\".", iterations, folder));
  say("  evaluate: " + command(arguments, "--eval-only", "MODEL.WEIGHTS", folder + "/model_final.pth"));
  const double epochs = config.get_double("TREADLE.SOLVER.MAX_EPOCHS");
  say("  go on:    " + (epochs > 0 ? command(arguments, "--resume", "TREADLE.SOLVER.MAX_EPOCHS", fmt::format("{}", 2 * epochs))
                                   : command(arguments, "--resume", "SOLVER.MAX_ITER", std::to_string(2 * iterations))));
}

/// Is there a run in the folder that `--resume` goes on with?
bool goes_on(const TrainArguments& arguments, const Config& config) {
  return arguments.resume && std::filesystem::exists(std::filesystem::path(config.get_string("OUTPUT_DIR")) / "last_checkpoint");
}

int train(const TrainArguments& arguments, const Config& config, const std::shared_ptr<Group>& group) {
  Builders builders = default_builders();
  // Writers are built last: by then whatever could be wrong with the config or the data has been said, and the earlier run is
  // whole.
  builders.writers = [&, build = builders.writers](DefaultTrainer& built) {
    if (!goes_on(arguments, config)) set_aside_previous_run(config.get_string("OUTPUT_DIR"));
    return build(built);
  };
  DefaultTrainer trainer(config, group, builders);
  trainer.resume_or_load(arguments.resume);
  if (arguments.resume && trainer.start_iter() == 0) {
    log_warning(fmt::format("--resume: there is no checkpoint in \"{}\"; training starts anew", config.get_string("OUTPUT_DIR")));
  }
  std::atomic<int> signal_number = 0;
  const SignalWatch watch([&](int number) {
    signal_number = number;
    log_warning(fmt::format("{}: finishing this step and saving; {} stops at once", number == SIGINT ? "Ctrl-C" : "SIGTERM",
                            number == SIGINT ? "a second Ctrl-C" : "a second signal"));
    trainer.request_stop(number == SIGINT ? "interrupted (Ctrl-C)" : "SIGTERM");
  });
  const Dict results = trainer.train();
  if (trainer.outcome() == Outcome::stopped) {
    if (trainer.iter() == 0) {
      say("\nStopped before the first step: there is nothing to save.");
      return signal_number != 0 ? kSignalStatus + signal_number : 0;
    }
    say(fmt::format("\nStopped after iteration {}; the state is saved.\n  go on: {}", trainer.iter() - 1,
                    command(arguments, "--resume")));
    return signal_number != 0 ? kSignalStatus + signal_number : 0;
  }
  say_results(results);
  say_how_to_go_on(arguments, trainer.config());
  return 0;
}

}  // namespace

CLI::App* add_train_command(CLI::App& app, TrainArguments& arguments) {
  CLI::App* train = app.add_subcommand("train", "Train the model of a config, or evaluate it.");
  add_config_arguments(*train, arguments);
  train->add_flag("--resume", arguments.resume, "go on from the last checkpoint in OUTPUT_DIR");
  train->add_flag("--eval-only", arguments.eval_only,
                  "evaluate MODEL.WEIGHTS (with --resume: the last checkpoint), train nothing");
  train->footer(
      "Example:\n"
      "  treadle train --config-file configs/fashion_mnist_cnn.yaml OUTPUT_DIR output/try SOLVER.MAX_ITER 500\n"
      "Exit status: 0 done, 1 an error, 2 wrong usage, 130 stopped by Ctrl-C, 143 by SIGTERM.");
  return train;
}

int run_train(const TrainArguments& arguments) {
  Config config = read_config(arguments);
  if (arguments.resume) take_saved_max_iter(config);
  config.freeze();
  const auto main = [&](const std::shared_ptr<Group>& group) {
    default_setup(config, *group, {.command_line = arguments.command_line, .write_config = !arguments.eval_only});
    return arguments.eval_only ? evaluate(config, group, arguments.resume) : train(arguments, config, group);
  };
  return launch(main);
}

}  // namespace treadle

#include <app/evaluate_command.hpp>
#include <app/signals.hpp>
#include <app/train_command.hpp>
#include <treadle/base/errors.hpp>
#include <treadle/base/log.hpp>
#include <treadle/comm/group.hpp>
#include <treadle/defaults.hpp>
#include <treadle/evaluation/results.hpp>

#include <fmt/format.h>
#include <sys/stat.h>
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
std::string command(const RunArguments& arguments, const std::string& flag, const std::string& key = "",
                    const std::string& value = "") {
  std::string text = arguments.command_line.front() + " train";
  if (!arguments.config_file.empty()) text += " --config-file " + quoted(arguments.config_file);
  text += launch_words(arguments);
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

void say_how_to_go_on(const RunArguments& arguments, const Config& config) {
  const std::int64_t iterations = config.get_int("SOLVER.MAX_ITER");
  const std::string& folder = config.get_string("OUTPUT_DIR");
  say(fmt::format("\nTrained {} iterations; everything is in \"{}\".", iterations, folder));
  const char* weights = config.get_bool("TREADLE.EMA.ENABLED") ? "/model_ema.pth" : "/model_final.pth";
  say("  evaluate: " + command(arguments, "--eval-only", "MODEL.WEIGHTS", folder + weights));
  const double epochs = config.get_double("TREADLE.SOLVER.MAX_EPOCHS");
  say("  go on:    " + (epochs > 0 ? command(arguments, "--resume", "TREADLE.SOLVER.MAX_EPOCHS", fmt::format("{}", 2 * epochs))
                                   : command(arguments, "--resume", "SOLVER.MAX_ITER", std::to_string(2 * iterations))));
}

std::filesystem::path last_checkpoint(const Config& config) {
  return std::filesystem::path(config.get_string("OUTPUT_DIR")) / "last_checkpoint";
}

/// Tells one `last_checkpoint` from the next, which is a new file; empty when there is none.
std::string identity(const std::filesystem::path& file) {
  struct stat status{};
  if (stat(file.c_str(), &status) != 0) return {};
  return fmt::format("{} {} {}.{}", status.st_dev, status.st_ino, status.st_mtim.tv_sec, status.st_mtim.tv_nsec);
}

/// With `--resume`, and when the run was started again after a failure and has saved since it began: what was there before is
/// another run's. The main process looks, since it is the one that moves the files of another run away.
bool decide_to_resume(const RunArguments& arguments, const Config& config, Group& group, const std::string& before) {
  if (arguments.resume || group.generation() == 0) return arguments.resume;
  const std::string now = identity(last_checkpoint(config));
  return group.broadcast(Value(!now.empty() && now != before)).as_bool();
}

int train(const RunArguments& arguments, const Config& config, const std::shared_ptr<Group>& group, const std::string& before) {
  const bool resume = decide_to_resume(arguments, config, *group, before);
  Builders builders = default_builders();
  // Writers are built last: by then whatever could be wrong with the config or the data has been said, and the earlier run is
  // whole.
  builders.writers = [&, build = builders.writers](DefaultTrainer& built) {
    if (!(resume && std::filesystem::exists(last_checkpoint(config)))) set_aside_previous_run(config.get_string("OUTPUT_DIR"));
    return build(built);
  };
  DefaultTrainer trainer(config, group, builders);
  trainer.resume_or_load(resume);
  if (arguments.resume && group->is_main_process() && trainer.start_iter() == 0) {
    log_warning(fmt::format("--resume: there is no checkpoint in \"{}\"; training starts anew", config.get_string("OUTPUT_DIR")));
  }
  std::atomic<int> signal_number = 0;
  const SignalWatch watch([&](int number) {
    signal_number = number;
    // The last evaluation comes behind the last save.
    const char* doing = trainer.outcome() == Outcome::completed ? "training is complete and saved, finishing the evaluation"
                                                                : "finishing this step and saving";
    log(group->is_main_process() ? LogLevel::warning : LogLevel::info,
        fmt::format("{}: {}; {} stops at once", number == SIGINT ? "Ctrl-C" : "SIGTERM", doing,
                    number == SIGINT ? "a second Ctrl-C" : "a second signal"));
    trainer.request_stop(number == SIGINT ? "interrupted (Ctrl-C)" : "SIGTERM");
  });
  const Dict results = trainer.train();
  const bool main = group->is_main_process();
  if (trainer.outcome() == Outcome::stopped) {
    if (trainer.iter() == 0) {
      if (main) say("\nStopped before the first step: there is nothing to save.");
      return signal_number != 0 ? kSignalStatus + signal_number : 0;
    }
    if (main) {
      say(fmt::format("\nStopped after iteration {}; the state is saved.\n  go on: {}", trainer.iter() - 1,
                      command(arguments, "--resume")));
    }
    return signal_number != 0 ? kSignalStatus + signal_number : 0;
  }
  say_results(results);
  if (main) say_how_to_go_on(arguments, trainer.config());
  return 0;
}

}  // namespace

CLI::App* add_train_command(CLI::App& app, RunArguments& arguments) {
  CLI::App* train = app.add_subcommand("train", "Train the model of a config, or evaluate it.");
  add_default_arguments(*train, arguments);
  train->footer(
      "Example:\n"
      "  treadle train --config-file configs/fashion_mnist_cnn.yaml OUTPUT_DIR output/try SOLVER.MAX_ITER 500\n"
      "Many processes: docs/distributed.md. Under torchrun, srun and mpirun it joins the others and starts none.\n"
      "Exit status: 0 done, 1 an error, 2 wrong usage, 130 stopped by Ctrl-C, 143 by SIGTERM.");
  return train;
}

int run_train(const RunArguments& arguments) {
  Config config = read_config(arguments);
  if (arguments.resume) take_saved_max_iter(config);
  config.freeze();
  const std::string before = identity(last_checkpoint(config));
  return run_on_all_ranks(arguments, config, !arguments.eval_only, [&](const std::shared_ptr<Group>& group) {
    return arguments.eval_only ? evaluate(config, group, arguments.resume) : train(arguments, config, group, before);
  });
}

}  // namespace treadle

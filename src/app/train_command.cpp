#include <app/evaluate_command.hpp>
#include <app/signals.hpp>
#include <app/train_command.hpp>
#include <treadle/base/errors.hpp>
#include <treadle/base/log.hpp>
#include <treadle/comm/group.hpp>
#include <treadle/config/auto_scale.hpp>
#include <treadle/defaults.hpp>
#include <treadle/evaluation/results.hpp>

#include <fmt/format.h>
#include <sys/stat.h>
#include <CLI/CLI.hpp>

#include <algorithm>
#include <atomic>
#include <csignal>
#include <cstdio>
#include <filesystem>

namespace treadle {
namespace {

constexpr int kSignalStatus = 128;  // the shell's convention: 128 + number of the signal

using Settings = std::vector<std::pair<std::string, std::string>>;  // key and value

/// The command that a user would type to go on from here: as this one, with `flag` and `settings`.
std::string command(const RunArguments& arguments, const std::string& flag, const Settings& settings = {}) {
  std::string text = shell_word(arguments.command_line.front()) + " train";
  if (!arguments.config_file.empty()) text += " --config-file " + shell_word(arguments.config_file);
  text += launch_words(arguments);
  text += " " + flag;
  const auto add = [&](const std::string& key, const std::string& value) {
    text += " " + shell_word(key) + " " + shell_word(value);
  };
  for (std::size_t i = 0; i + 1 < arguments.overrides.size(); i += 2) {
    const std::string& key = arguments.overrides[i];
    const bool replaced = std::ranges::any_of(settings, [&](const auto& setting) { return setting.first == key; });
    if (!replaced) add(key, arguments.overrides[i + 1]);
  }
  for (const auto& [key, value] : settings) add(key, value);
  return text;
}

void say(const std::string& text) {
  std::fwrite(text.data(), 1, text.size(), stdout);
  std::fputc('\n', stdout);
  std::fflush(stdout);
}

void say_results(const Dict& results) {
  if (!results.empty()) say("\n" + format_results_table(results));
}

/// What makes a run that is resumed twice as long as this one was. `config` is the user's, which the next run scales to its
/// processes again, and `run` the one that this run went by.
Settings twice_as_long(const Config& config, const Config& run) {
  const double epochs = config.get_double("TREADLE.SOLVER.MAX_EPOCHS");
  if (epochs > 0) return {{"TREADLE.SOLVER.MAX_EPOCHS", fmt::format("{}", 2 * epochs)}};
  if (resume_settings(config) == ResumeSettings::current)
    return {{"SOLVER.MAX_ITER", std::to_string(2 * config.get_int("SOLVER.MAX_ITER"))}};
  // The number may be one that was saved, which is scaled already: it is scaled back, and rounded up, so as not to fall short.
  std::int64_t twice = 2 * run.get_int("SOLVER.MAX_ITER");
  const std::int64_t workers = run.get_int("SOLVER.REFERENCE_WORLD_SIZE");
  const std::int64_t reference = config.get_int("SOLVER.REFERENCE_WORLD_SIZE");
  if (reference != 0) twice = (twice * workers + reference - 1) / reference;
  return {{"TREADLE.SOLVER.RESUME", "current"}, {"SOLVER.MAX_ITER", std::to_string(twice)}};
}

void say_how_to_go_on(const RunArguments& arguments, const Config& config, const Config& run) {
  const std::string& folder = run.get_string("OUTPUT_DIR");
  say(fmt::format("\nTrained {} iterations; everything is in \"{}\".", run.get_int("SOLVER.MAX_ITER"), folder));
  const char* weights = run.get_bool("TREADLE.EMA.ENABLED") ? "/model_ema.pth" : "/model_final.pth";
  say("  evaluate: " + command(arguments, "--eval-only", {{"MODEL.WEIGHTS", folder + weights}}));
  say("  go on:    " + command(arguments, "--resume", twice_as_long(config, run)));
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

/// The config that the run goes by: that of the user, scaled to the processes there are. A saved MAX_ITER is one of a scaled run,
/// so it is taken behind the scaling, and by the main process, for all to train as long.
Config config_of_run(const RunArguments& arguments, const Config& config, Group& group) {
  const char* const key = "SOLVER.MAX_ITER";
  Config run = auto_scale_workers(config, group.get_world_size()).clone();  // a clone may still be changed
  if (arguments.resume) {
    if (group.is_main_process()) take_saved_max_iter(run);
    const std::int64_t max_iter = group.broadcast(Value(run.get_int(key))).as_int();
    if (max_iter != run.get_int(key)) run.set(key, max_iter);
  }
  run.freeze();
  return run;
}

/// The parts of a run that does not go on from a checkpoint. Writers open their files, so what an earlier run wrote is set aside
/// when they are built. That comes last, behind the weights too: by then whatever could be wrong with config, data and weights
/// has been said, and the earlier run is whole.
Builders builders_of_new_run(bool resume) {
  Builders builders = default_builders();
  builders.hooks = [resume, build = builders.hooks](DefaultTrainer& trainer) {
    trainer.resume_or_load(resume);
    return build(trainer);
  };
  builders.writers = [build = builders.writers](DefaultTrainer& trainer) {
    set_aside_previous_run(trainer.config().get_string("OUTPUT_DIR"));
    return build(trainer);
  };
  return builders;
}

int train(const RunArguments& arguments, const Config& config, const std::shared_ptr<Group>& group, const std::string& before) {
  const bool resume = decide_to_resume(arguments, config, *group, before);
  const bool goes_on = group->broadcast(Value(resume && std::filesystem::exists(last_checkpoint(config)))).as_bool();
  DefaultTrainer trainer(config_of_run(arguments, config, *group), group,
                         goes_on ? default_builders() : builders_of_new_run(resume));
  if (goes_on) trainer.resume_or_load();
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
  if (main) say_how_to_go_on(arguments, config, trainer.config());
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
  config.freeze();
  const std::string before = identity(last_checkpoint(config));
  return run_on_all_ranks(arguments, config, arguments.eval_only, [&](const std::shared_ptr<Group>& group) {
    return arguments.eval_only ? evaluate(config, group, arguments.resume) : train(arguments, config, group, before);
  });
}

}  // namespace treadle

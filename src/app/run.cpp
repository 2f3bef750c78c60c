#include <app/config_command.hpp>
#include <app/data_command.hpp>
#include <app/diff_command.hpp>
#include <app/evaluate_command.hpp>
#include <app/inspect_command.hpp>
#include <app/schedule_command.hpp>
#include <app/train_command.hpp>
#include <app/usage.hpp>
#include <app/verify_command.hpp>
#include <base/exception_text.hpp>
#include <treadle/app/run.hpp>
#include <treadle/base/errors.hpp>
#include <treadle/base/log.hpp>
#include <treadle/defaults/default_setup.hpp>
#include <treadle/launch/launch.hpp>

#include <CLI/CLI.hpp>

#include <csignal>
#include <cstdio>
#include <string>

namespace treadle {
namespace {

constexpr int kError = 1;
constexpr int kWrongUsage = 2;

void complain(const std::string& message) {
  set_status_line("");
  const std::string line = "treadle: error: " + message + "\n";
  std::fwrite(line.data(), 1, line.size(), stderr);
}

int report_usage(const CLI::App& app, const CLI::ParseError& error, const std::vector<std::string>& words) {
  if (error.get_exit_code() == 0) return app.exit(error);
  complain(usage_problem(app, error, words));
  return kWrongUsage;
}

/// Runs `action`; every exception becomes one line.
template <class Action>
int guarded(const Action& action) {
  try {
    return action();
  } catch (const RankError& error) {
    complain(error.what());
    return error.status();
  } catch (const ConfigError& error) {
    complain(exception_text(std::current_exception()));
    return error.key().starts_with("--") ? kWrongUsage : kError;
  } catch (...) {
    complain(exception_text(std::current_exception()));
  }
  return kError;
}

}  // namespace

int run_command(int argc, const char* const* argv) {
  CLI::App app("Treadle trains LibTorch models.", "treadle");
  app.require_subcommand(1);
  app.set_version_flag("--version", [] { return environment_report(); });
  // A file that outgrows the limit of the shell (ulimit -f) is an error of the write, as a full disk is.
  std::signal(SIGXFSZ, SIG_IGN);
  RunArguments train_arguments;
  train_arguments.command_line.assign(argv, argv + argc);
  const CLI::App* train = add_train_command(app, train_arguments);
  EvaluateArguments evaluate_arguments;
  evaluate_arguments.command_line = train_arguments.command_line;
  const CLI::App* evaluation = add_evaluate_command(app, evaluate_arguments);
  ConfigCommandArguments config_arguments;
  const CLI::App* config = add_config_command(app, config_arguments);
  ScheduleArguments schedule_arguments;
  const CLI::App* schedule = add_schedule_command(app, schedule_arguments);
  DataArguments data_arguments;
  const CLI::App* data = add_data_command(app, data_arguments);
  InspectArguments inspect_arguments;
  const CLI::App* inspect = add_inspect_command(app, inspect_arguments);
  VerifyArguments verify_arguments;
  const CLI::App* verify = add_verify_command(app, verify_arguments);
  DiffArguments diff_arguments;
  const CLI::App* diff = add_diff_command(app, diff_arguments);
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    return report_usage(app, error, train_arguments.command_line);
  }
  return guarded([&] {
    if (train->parsed()) return run_train(train_arguments);
    if (evaluation->parsed()) return run_evaluate(evaluate_arguments);
    if (config->parsed()) return run_config(config_arguments);
    if (schedule->parsed()) return run_schedule(schedule_arguments);
    if (data->parsed()) return run_data(data_arguments);
    if (inspect->parsed()) return run_inspect(inspect_arguments);
    if (verify->parsed()) return run_verify(verify_arguments);
    if (diff->parsed()) return run_diff(diff_arguments);
    return kWrongUsage;
  });
}

}  // namespace treadle

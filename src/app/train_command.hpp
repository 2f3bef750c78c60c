#pragma once

#include <app/launch_arguments.hpp>

namespace treadle {

/// Adds the subcommand to `app`; parsing fills `arguments`, which must outlive it.
CLI::App* add_train_command(CLI::App& app, RunArguments& arguments);

/// Trains or evaluates; the exit status.
int run_train(const RunArguments& arguments);

}  // namespace treadle

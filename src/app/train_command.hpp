#pragma once

#include <app/config_arguments.hpp>
#include <treadle/launch/launch.hpp>

#include <string>
#include <vector>

namespace treadle {

/// The arguments of `treadle train`, with Detectron2's names.
struct TrainArguments : ConfigArguments {
  bool resume = false;
  bool eval_only = false;
  LaunchOptions launch;
  double dist_timeout = 1800;             ///< seconds
  std::vector<std::string> command_line;  ///< as typed
};

/// Adds the subcommand to `app`; parsing fills `arguments`, which must outlive it.
CLI::App* add_train_command(CLI::App& app, TrainArguments& arguments);

/// Trains or evaluates; the exit status.
int run_train(const TrainArguments& arguments);

}  // namespace treadle

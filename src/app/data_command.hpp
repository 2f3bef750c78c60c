#pragma once

#include <app/config_arguments.hpp>

namespace treadle {

/// The arguments of `treadle data`.
struct DataArguments : ConfigArguments {
  bool bench = false;   ///< also measure how many images a second the training loader gives, with 0, 1, … workers
  bool json = false;    ///< one JSON object instead of tables
  int max_workers = 0;  ///< of the measurement; 0: as many as there are processors
  double seconds = 2;   ///< of each measurement
};

/// Adds the subcommand to `app`; parsing fills `arguments`, which must outlive it.
CLI::App* add_data_command(CLI::App& app, DataArguments& arguments);

/// Says what is in the data sets of a config; the exit status. Leaves no file behind.
int run_data(const DataArguments& arguments);

}  // namespace treadle

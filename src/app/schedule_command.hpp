#pragma once

#include <app/config_arguments.hpp>

#include <cstdint>

namespace treadle {

/// The arguments of `treadle schedule`.
struct ScheduleArguments : ConfigArguments {
  std::int64_t rows = 11;  ///< evenly spaced rows of the table, at least 1
  bool csv = false;        ///< every iteration as `iteration,lr`, in place of table and drawing
};

/// Adds the subcommand to `app`; parsing fills `arguments`, which must outlive it.
CLI::App* add_schedule_command(CLI::App& app, ScheduleArguments& arguments);

/// Prints the learning rates that the config asks for; the exit status. Reads nothing but the config, and leaves no file behind.
int run_schedule(const ScheduleArguments& arguments);

}  // namespace treadle

#pragma once

namespace treadle {

/// The command `treadle`: reads the arguments, runs the subcommand and returns the exit status.
///
/// 0: done. 1: an Error, told in one line on stderr. 2: wrong usage. 130 or 143: stopped by SIGINT or SIGTERM after a save.
/// Call it from `main`, once.
int run_command(int argc, const char* const* argv);

}  // namespace treadle

#pragma once

namespace treadle {

/// The command `treadle`: reads the arguments, runs the subcommand and returns the exit status.
///
/// 0: done. 1: an Error, told in one line on stderr; for `diff` and `verify` also what they found. 2: wrong usage. 130 or 143:
/// stopped by SIGINT or SIGTERM, and what was trained is saved. Otherwise the status of a process of the run that failed, or 128
/// + the number of the signal that killed it. Call it from `main`, once.
int run_command(int argc, const char* const* argv);

}  // namespace treadle

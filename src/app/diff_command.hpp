#pragma once

#include <string>

namespace CLI {
class App;
}

namespace treadle {

/// The arguments of `treadle diff`.
struct DiffArguments {
  std::string left, right;
};

/// Adds the subcommand to `app`; parsing fills `arguments`, which must outlive it.
CLI::App* add_diff_command(CLI::App& app, DiffArguments& arguments);

/// Compares two checkpoints; the exit status: 0 when they are equal in every bit, 1 when not.
int run_diff(const DiffArguments& arguments);

}  // namespace treadle

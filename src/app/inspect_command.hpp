#pragma once

#include <string>

namespace CLI {
class App;
}

namespace treadle {

/// The arguments of `treadle inspect`.
struct InspectArguments {
  std::string file;
  bool json = false;
};

/// Adds the subcommand to `app`; parsing fills `arguments`, which must outlive it.
CLI::App* add_inspect_command(CLI::App& app, InspectArguments& arguments);

/// Shows what a checkpoint holds; the exit status.
int run_inspect(const InspectArguments& arguments);

}  // namespace treadle

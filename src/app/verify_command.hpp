#pragma once

#include <string>

namespace CLI {
class App;
}

namespace treadle {

/// The argument of `treadle verify`.
struct VerifyArguments {
  std::string path;
};

/// Adds the subcommand to `app`; parsing fills `arguments`, which must outlive it.
CLI::App* add_verify_command(CLI::App& app, VerifyArguments& arguments);

/// Reads one checkpoint, or all of a folder, and compares every checksum; the exit status: 1 when one is damaged.
int run_verify(const VerifyArguments& arguments);

}  // namespace treadle

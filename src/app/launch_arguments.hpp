#pragma once

#include <treadle/defaults/default_argument_parser.hpp>
#include <treadle/launch/launch.hpp>

#include <functional>
#include <memory>
#include <string>
#include <vector>

namespace treadle {

/// What subcommands take that run on the processes of a job.
struct RunArguments : DefaultArguments {
  std::vector<std::string> command_line;  ///< as typed
};

/// `word` as a shell reads it back: as it is, or in single quotes.
std::string shell_word(const std::string& word);

/// The options that say which processes run, where they are not the defaults: " --num-processes 2". For a shell.
std::string launch_words(const DefaultArguments& arguments);

/// Starts the processes, finds out that all have the same config, prepares each with `default_setup`, and calls `main`; the exit
/// status.
int run_on_all_ranks(const RunArguments& arguments, const Config& config, bool eval_only, const RankMain& main);

}  // namespace treadle

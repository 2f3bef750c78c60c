#pragma once

#include <app/launch_arguments.hpp>

#include <memory>

namespace treadle {

class Group;

/// The arguments of `treadle evaluate`.
struct EvaluateArguments : RunArguments {
  bool json = false;
};

/// Adds the subcommand to `app`; parsing fills `arguments`, which must outlive it.
CLI::App* add_evaluate_command(CLI::App& app, EvaluateArguments& arguments);

/// Evaluates; the exit status.
int run_evaluate(const EvaluateArguments& arguments);

/// Evaluates MODEL.WEIGHTS, or with `resume` the last checkpoint of OUTPUT_DIR, on DATASETS.TEST, prints the results as a table
/// or JSON, and verifies them against TEST.EXPECTED_RESULTS. On all ranks, after `default_setup`; 0, or throws.
int evaluate(const Config& config, const std::shared_ptr<Group>& group, bool resume, bool json = false);

}  // namespace treadle

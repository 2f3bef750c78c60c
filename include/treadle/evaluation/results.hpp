#pragma once

#include <treadle/base/value.hpp>

#include <string>
#include <utility>
#include <vector>

namespace treadle {

/// Results with nested names joined by "/", in order: {"a": {"b": 1}} gives "a/b". Throws FormatError that names what is no
/// number.
std::vector<std::pair<std::string, double>> flatten_results_dict(const Dict& results);

/// Logs each task's metrics as Detectron2 does, ready to be pasted into a spreadsheet: `copypaste: Task: …`, names, numbers.
void print_csv_format(const Dict& results);

/// A result that a run must reach.
struct ExpectedResult {
  std::string task;      ///< "classification"; with several data sets "data set/classification"
  std::string metric;    ///< "accuracy"
  double value = 0;      ///< the result
  double tolerance = 0;  ///< how far it may be off, at least 0
};

/// Logs that all `expected` results are there, or throws Error that names those that are missing, not finite or too far off.
/// Nothing expected: does nothing. For the main process, which has the results.
void verify_results(const std::vector<ExpectedResult>& expected, const Dict& results);

/// A table for people: a line per metric, aligned; empty for empty results.
std::string format_results_table(const Dict& results);

}  // namespace treadle

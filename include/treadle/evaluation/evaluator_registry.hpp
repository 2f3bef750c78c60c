#pragma once

#include <treadle/base/registry.hpp>
#include <treadle/comm/group.hpp>
#include <treadle/evaluation/evaluator.hpp>

#include <filesystem>
#include <functional>

namespace treadle {

/// What an evaluator may be built from.
struct EvaluatorOptions {
  std::string dataset;                     ///< the name of the data set it judges
  std::vector<std::string> class_names{};  ///< of that data set; empty when it has none
  std::filesystem::path output_dir{};      ///< a folder of its own for files; empty: write none
  std::shared_ptr<Group> group{};          ///< null for one process
  Dict settings{};                         ///< of the run, nested: {"TEST": …, "TREADLE": …}; for a program's own evaluators
};

/// Name → a function that builds an evaluator. "ClassificationEvaluator", "RegressionEvaluator" and "LossEvaluator" are there
/// from the start; programs add their own before a run begins.
using EvaluatorFactory = std::function<std::unique_ptr<DatasetEvaluator>(const EvaluatorOptions&)>;
Registry<EvaluatorFactory>& evaluator_registry();

}  // namespace treadle

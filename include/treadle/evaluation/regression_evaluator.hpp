#pragma once

#include <treadle/comm/group.hpp>
#include <treadle/evaluation/evaluator.hpp>

namespace treadle {

class SampleRows;

struct RegressionEvaluatorOptions {
  std::string task = "regression";   ///< the key of its results
  std::string prediction = "value";  ///< the field of a prediction: a tensor or a number
  std::string target = "target";     ///< the field of the batch: a tensor [N, …], or a List with one tensor per sample
  std::shared_ptr<Group> group{};    ///< null for one process
};

/// Compares predicted numbers with targets of as many elements. Loop thread only. Results, over the elements of all samples:
/// "mae" (mean absolute error), "mse", "rmse" (mean squared error and its root), "max_error" (the largest absolute error), "r2"
/// (1 - mse / variance of the targets; left out when that is 0), and "num_samples". Computed in double precision. A sample of an
/// id seen before counts once and sums go in the order of ids, so that the results are the same bits for any number of ranks. No
/// samples: FormatError.
class RegressionEvaluator final : public DatasetEvaluator {
 public:
  explicit RegressionEvaluator(RegressionEvaluatorOptions options = {});
  ~RegressionEvaluator() override;
  void reset() override;
  void process(const Batch& inputs, const List& outputs) override;
  Dict evaluate() override;

 private:
  RegressionEvaluatorOptions options_;
  std::unique_ptr<SampleRows> rows_;
};

}  // namespace treadle

#pragma once

#include <treadle/base/batch.hpp>

#include <memory>
#include <string>
#include <utility>
#include <vector>

namespace treadle {

class Model;

/// Judges the predictions of a model on a data set. Loop thread only. The order of calls is set_model, reset, process…, evaluate.
class DatasetEvaluator {
 public:
  virtual ~DatasetEvaluator() = default;
  DatasetEvaluator(const DatasetEvaluator&) = delete;
  DatasetEvaluator& operator=(const DatasetEvaluator&) = delete;

  /// The model whose predictions follow; it lives until `evaluate`. For evaluators that ask it for more than predictions.
  virtual void set_model(Model&) {}
  /// Forgets everything processed so far.
  virtual void reset() = 0;
  /// Takes one batch of this rank and the model's predictions for it, one per sample.
  virtual void process(const Batch& inputs, const List& outputs) = 0;
  /// The results over all ranks on the main process, an empty Dict elsewhere: {task: {metric: number}}. A collective.
  virtual Dict evaluate() = 0;

 protected:
  DatasetEvaluator() = default;
};

/// Several evaluators as one; it owns them. Throws Error from `evaluate` when two give the same task.
class DatasetEvaluators final : public DatasetEvaluator {
 public:
  explicit DatasetEvaluators(std::vector<std::unique_ptr<DatasetEvaluator>> evaluators) : evaluators_(std::move(evaluators)) {}
  void set_model(Model& model) override;
  void reset() override;
  void process(const Batch& inputs, const List& outputs) override;
  Dict evaluate() override;

 private:
  std::vector<std::unique_ptr<DatasetEvaluator>> evaluators_;
};

}  // namespace treadle

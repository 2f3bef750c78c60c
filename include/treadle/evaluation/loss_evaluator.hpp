#pragma once

#include <treadle/comm/group.hpp>
#include <treadle/evaluation/evaluator.hpp>

#include <unordered_set>

namespace treadle {

struct LossEvaluatorOptions {
  std::string task = "loss";       ///< the key of its results
  std::shared_ptr<Group> group{};  ///< null for one process
  /// Ask for the losses of one sample after the other. Slower; then results are the same bits however samples are spread over
  /// batches and ranks, also for losses that are no mean over their samples.
  bool one_by_one = false;
};

/// The validation loss of any model: `losses` of every batch, in the mode and with the gradients that the caller has set, which
/// `inference_on_dataset` does. Loop thread only. Results: the mean over samples of each loss by its name, "total_loss" their
/// sum unless the model gives one of that name, and "num_samples". A sample of an id seen before counts once: this rank takes it
/// out of its batch, and a batch weighs as many samples as no earlier one had, on any rank. Throws FormatError when there are no
/// samples or a batch has other losses than the first, Error without a model.
class LossEvaluator final : public DatasetEvaluator {
 public:
  explicit LossEvaluator(LossEvaluatorOptions options = {});
  void set_model(Model& model) override { model_ = &model; }
  void reset() override;
  void process(const Batch& inputs, const List& outputs) override;
  Dict evaluate() override;

 private:
  void note(const Batch& batch);

  LossEvaluatorOptions options_;
  Model* model_ = nullptr;
  std::vector<std::string> names_;  // of the losses, as the first batch had them
  std::unordered_set<std::int64_t> seen_;
  std::vector<double> losses_;  // per batch: one for each name
  std::vector<std::int64_t> sizes_;
  std::vector<std::int64_t> ids_;  // of all batches; -1 for none
};

}  // namespace treadle

#pragma once

#include <treadle/comm/group.hpp>
#include <treadle/evaluation/evaluator.hpp>

#include <functional>

namespace treadle {

struct ClassificationEvaluatorOptions {
  std::string task = "classification";  ///< the key of its results
  std::shared_ptr<Group> group{};       ///< null for one process
};

/// Accuracy of predictions {"scores": [num_classes]} against the field "label". Loop thread only.
/// Results in percent: "accuracy" (top 1) and, with more than 5 classes, "top5_accuracy"; "num_samples". A sample of an id seen
/// before (a padded last batch) counts once, so the results do not depend on the number of ranks. No samples: FormatError.
class ClassificationEvaluator final : public DatasetEvaluator {
 public:
  explicit ClassificationEvaluator(ClassificationEvaluatorOptions options = {});
  void reset() override;
  void process(const Batch& inputs, const List& outputs) override;
  Dict evaluate() override;

 private:
  struct Judged {
    std::int64_t id;
    std::int64_t rank_of_label;  // 0 when the label has the highest score
  };
  ClassificationEvaluatorOptions options_;
  std::vector<Judged> judged_;
  std::int64_t num_classes_ = 0;
};

}  // namespace treadle

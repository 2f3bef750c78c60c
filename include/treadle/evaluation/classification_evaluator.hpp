#pragma once

#include <treadle/comm/group.hpp>
#include <treadle/evaluation/evaluator.hpp>

#include <ATen/core/Tensor.h>

#include <filesystem>

namespace treadle {

class SampleRows;

struct ClassificationEvaluatorOptions {
  std::string task = "classification";     ///< the key of its results
  std::shared_ptr<Group> group{};          ///< null for one process
  std::vector<std::string> class_names{};  ///< what per-class results are called; empty for their numbers
  bool per_class = true;                   ///< give the accuracy of every class
  int calibration_bins = 15;               ///< of the calibration error, at least 0; 0 leaves it out
  std::filesystem::path output_dir{};      ///< where `confusion_matrix.csv` is written; empty: nowhere
};
/// Throws ConfigError that names the field and its range.
void validate(const ClassificationEvaluatorOptions& options);

/// Judges predictions {"scores": [num_classes]} by the field "label", an integer tensor with one number for each. Loop thread
/// only. Results, in percent:
/// - "accuracy": the label has the highest score; of equal ones the first counts, and one that is NaN is never right;
/// - "top5_accuracy", with more than 5 classes: fewer than 5 classes are ahead of the label;
/// - "calibration_error": the expected calibration error of Guo et al. 2017, the mean of |accuracy - confidence| over bins of
///   equal width, weighted by their samples; the confidence is the highest score. Left out when one is not in [0, 1], and so no
///   probability;
/// - "accuracy-NAME": of the samples of each class that occurs;
/// and "num_samples". A sample of an id seen before (a padded last batch) counts once and sums go in the order of ids, so that
/// the results are the same bits for any number of ranks. FormatError: no samples, another number of labels than of predictions,
/// a label that is no class, or predictions of other classes than the ones before.
class ClassificationEvaluator final : public DatasetEvaluator {
 public:
  explicit ClassificationEvaluator(ClassificationEvaluatorOptions options = {});
  ~ClassificationEvaluator() override;
  void reset() override;
  void process(const Batch& inputs, const List& outputs) override;
  /// Throws IoError when `output_dir` cannot be written.
  Dict evaluate() override;
  /// Counts of the last `evaluate` on the main process, int64 [true class, predicted class]; undefined before.
  const at::Tensor& confusion_matrix() const noexcept { return confusion_; }

 private:
  std::string class_name(std::int64_t label) const;
  void count(const std::vector<double>& rows, std::int64_t classes);
  void write_confusion_matrix() const;

  ClassificationEvaluatorOptions options_;
  std::unique_ptr<SampleRows> rows_;
  std::int64_t num_classes_ = 0;
  at::Tensor confusion_;
};

}  // namespace treadle

#include <treadle/evaluation/classification_evaluator.hpp>
#include <treadle/evaluation/evaluator_registry.hpp>
#include <treadle/evaluation/loss_evaluator.hpp>
#include <treadle/evaluation/regression_evaluator.hpp>

namespace treadle {
namespace {

std::unique_ptr<DatasetEvaluator> make_classification(const EvaluatorOptions& options) {
  return std::make_unique<ClassificationEvaluator>(ClassificationEvaluatorOptions{
      .group = options.group, .class_names = options.class_names, .output_dir = options.output_dir});
}

std::unique_ptr<DatasetEvaluator> make_regression(const EvaluatorOptions& options) {
  return std::make_unique<RegressionEvaluator>(RegressionEvaluatorOptions{.group = options.group});
}

std::unique_ptr<DatasetEvaluator> make_loss(const EvaluatorOptions& options) {
  return std::make_unique<LossEvaluator>(LossEvaluatorOptions{.group = options.group});
}

}  // namespace

Registry<EvaluatorFactory>& evaluator_registry() {
  static Registry<EvaluatorFactory> registry("evaluator");
  static const bool filled = [] {
    registry.add("ClassificationEvaluator", make_classification);
    registry.add("RegressionEvaluator", make_regression);
    registry.add("LossEvaluator", make_loss);
    return true;
  }();
  static_cast<void>(filled);
  return registry;
}

}  // namespace treadle

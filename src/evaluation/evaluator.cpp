#include <treadle/base/errors.hpp>
#include <treadle/evaluation/evaluator.hpp>

namespace treadle {

void DatasetEvaluators::set_model(Model& model) {
  for (auto& evaluator : evaluators_) evaluator->set_model(model);
}

void DatasetEvaluators::reset() {
  for (auto& evaluator : evaluators_) evaluator->reset();
}

void DatasetEvaluators::process(const Batch& inputs, const List& outputs) {
  for (auto& evaluator : evaluators_) evaluator->process(inputs, outputs);
}

Dict DatasetEvaluators::evaluate() {
  Dict results;
  for (auto& evaluator : evaluators_) {
    for (auto& task : evaluator->evaluate()) {
      if (results.contains(task.key)) throw Error("two evaluators give results for the task \"" + task.key.to_string() + "\"");
      results.set(task.key, std::move(task.value));
    }
  }
  return results;
}

}  // namespace treadle

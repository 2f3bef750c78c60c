#include <treadle/base/errors.hpp>
#include <treadle/base/value_view.hpp>
#include <treadle/evaluation/classification_evaluator.hpp>

#include <ATen/ops/arange.h>
#include <ATen/ops/stack.h>
#include <ATen/ops/tensor.h>
#include <fmt/format.h>

#include <algorithm>
#include <unordered_set>

namespace treadle {

ClassificationEvaluator::ClassificationEvaluator(ClassificationEvaluatorOptions options) : options_(std::move(options)) {
  if (!options_.group) options_.group = make_single_process_group();
}

void ClassificationEvaluator::reset() {
  judged_.clear();
  num_classes_ = 0;
}

void ClassificationEvaluator::process(const Batch& inputs, const List& outputs) {
  if (outputs.empty()) return;
  const at::Tensor labels = inputs.tensor("label").cpu();
  std::vector<at::Tensor> rows;
  for (std::size_t i = 0; i < outputs.size(); ++i) rows.push_back(ValueView(outputs[i], "prediction")["scores"].as_tensor());
  const at::Tensor scores = at::stack(rows).cpu();
  num_classes_ = scores.size(1);
  for (std::size_t i = 0; i < rows.size(); ++i) {
    const auto label = labels[static_cast<std::int64_t>(i)].item<std::int64_t>();
    if (label < 0 || label >= num_classes_)
      throw FormatError(fmt::format("the label {} is not among the {} classes of the scores", label, num_classes_));
  }
  // The rank of the label is the number of classes with a higher score, or an equal one and a smaller index: one winner on ties.
  const at::Tensor own = scores.gather(1, labels.unsqueeze(1));
  const at::Tensor classes = at::arange(num_classes_).unsqueeze(0);
  // Beside a score that is no number every class counts as ahead.
  const at::Tensor ahead =
      scores.gt(own).logical_or(scores.eq(own).logical_and(classes.lt(labels.unsqueeze(1)))).logical_or(own.isnan());
  const at::Tensor ranks = ahead.sum(1);
  for (std::size_t i = 0; i < rows.size(); ++i) {
    const std::int64_t id = inputs.ids().empty() ? -1 : inputs.ids()[i];
    judged_.push_back({id, ranks[static_cast<std::int64_t>(i)].item<std::int64_t>()});
  }
}

Dict ClassificationEvaluator::evaluate() {
  std::vector<std::int64_t> packed;
  for (const Judged& each : judged_) {
    packed.push_back(each.id);
    packed.push_back(each.rank_of_label);
  }
  const List gathered = options_.group->gather(Dict{{"judged", at::tensor(packed, at::kLong)}, {"num_classes", num_classes_}});
  if (!options_.group->is_main_process()) return {};

  std::unordered_set<std::int64_t> seen;
  std::int64_t samples = 0, first = 0, among_five = 0, classes = 0;
  for (const Value& rank : gathered) {
    classes = std::max(classes, rank.as_dict().at("num_classes").as_int());
    const at::Tensor& judged = rank.as_dict().at("judged").as_tensor();
    const auto* numbers = judged.const_data_ptr<std::int64_t>();
    for (std::int64_t i = 0; i < judged.numel(); i += 2) {
      if (numbers[i] >= 0 && !seen.insert(numbers[i]).second) continue;
      ++samples;
      first += numbers[i + 1] == 0;
      among_five += numbers[i + 1] < 5;
    }
  }
  if (samples == 0) throw FormatError("there was nothing to evaluate: the data set gave no samples");
  const auto percent = [&](std::int64_t count) { return 100.0 * static_cast<double>(count) / static_cast<double>(samples); };
  Dict metrics{{"accuracy", percent(first)}};
  if (classes > 5) metrics.set("top5_accuracy", percent(among_five));
  metrics.set("num_samples", samples);
  return {{options_.task, std::move(metrics)}};
}

}  // namespace treadle

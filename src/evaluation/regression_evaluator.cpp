#include <evaluation/sample_rows.hpp>
#include <treadle/base/errors.hpp>
#include <treadle/base/value_view.hpp>
#include <treadle/evaluation/regression_evaluator.hpp>

#include <ATen/ops/full.h>
#include <fmt/format.h>

#include <array>
#include <cmath>

namespace treadle {
namespace {

/// Sums over the elements of one sample, or of several.
struct Sums {
  double count = 0, absolute = 0, squared = 0, largest = 0;  // the errors
  double mean = 0, deviation = 0;                            // the targets: mean, and sum of squared deviations from it

  void add(const Sums& other) {
    absolute += other.absolute;
    squared += other.squared;
    if (!std::isnan(largest) && !(largest >= other.largest)) largest = other.largest;  // NaN stays
    // Chan, Golub, LeVeque 1979
    const double delta = other.mean - mean, both = count + other.count;
    deviation += other.deviation + delta * delta * count * other.count / both;
    mean += delta * other.count / both;
    count = both;
  }
  std::array<double, 6> row() const { return {count, absolute, squared, largest, mean, deviation}; }
};

at::Tensor numbers(const at::Tensor& tensor) { return tensor.detach().cpu().to(at::kDouble).reshape({-1}).contiguous(); }

at::Tensor numbers(const ValueView& value) {
  return value.is(Value::Type::tensor) ? numbers(value.as_tensor()) : at::full({1}, value.as_double(), at::kDouble);
}

Sums sums_of(const at::Tensor& predicted, const at::Tensor& target) {
  Sums sums;
  for (std::int64_t i = 0; i < target.numel(); ++i) {
    const double truth = target.const_data_ptr<double>()[i];
    const double error = std::fabs(predicted.const_data_ptr<double>()[i] - truth);
    sums.add({1, error, error * error, error, truth, 0});
  }
  return sums;
}

}  // namespace

RegressionEvaluator::RegressionEvaluator(RegressionEvaluatorOptions options)
    : options_(std::move(options)), rows_(std::make_unique<SampleRows>(std::tuple_size_v<decltype(Sums{}.row())>)) {
  if (!options_.group) options_.group = make_single_process_group();
}

RegressionEvaluator::~RegressionEvaluator() = default;

void RegressionEvaluator::reset() { rows_->clear(); }

void RegressionEvaluator::process(const Batch& inputs, const List& outputs) {
  const Value& targets = inputs.field(options_.target);
  for (std::size_t i = 0; i < outputs.size(); ++i) {
    const at::Tensor predicted = numbers(ValueView(outputs[i], "prediction")[options_.prediction]);
    const at::Tensor target = targets.is(Value::Type::list)
                                  ? numbers(ValueView(targets, options_.target).item(i))
                                  : numbers(inputs.tensor(options_.target)[static_cast<std::int64_t>(i)]);
    if (predicted.numel() != target.numel()) {
      throw FormatError(fmt::format("the prediction \"{}\" has {} elements, the target \"{}\" has {}", options_.prediction,
                                    predicted.numel(), options_.target, target.numel()));
    }
    if (target.numel() == 0) continue;
    rows_->add(inputs, i, sums_of(predicted, target).row());
  }
}

Dict RegressionEvaluator::evaluate() {
  const std::vector<double> rows = rows_->gather(*options_.group);
  if (!options_.group->is_main_process()) return {};
  if (rows.empty()) throw FormatError("there was nothing to evaluate: the data set gave no samples");
  Sums all;
  std::int64_t samples = 0;
  for (auto row = rows.begin(); row != rows.end(); row += 6, ++samples) all.add({row[0], row[1], row[2], row[3], row[4], row[5]});
  const double mse = all.squared / all.count;
  Dict metrics{{"mae", all.absolute / all.count}, {"mse", mse}, {"rmse", std::sqrt(mse)}, {"max_error", all.largest}};
  if (all.deviation > 0) metrics.set("r2", 1 - all.squared / all.deviation);
  metrics.set("num_samples", samples);
  return {{options_.task, std::move(metrics)}};
}

}  // namespace treadle

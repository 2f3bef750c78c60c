#include <evaluation/sample_rows.hpp>
#include <treadle/base/errors.hpp>
#include <treadle/base/value_view.hpp>
#include <treadle/evaluation/classification_evaluator.hpp>

#include <ATen/ops/stack.h>
#include <ATen/ops/zeros.h>
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cmath>
#include <fstream>
#include <optional>

namespace treadle {
namespace {

/// What is noted of a sample.
struct Judged {
  double label;
  double predicted;      // the class of the highest score; -1 when all are NaN
  double rank_of_label;  // how many classes are ahead of it
  double confidence;     // the highest score
};
constexpr std::size_t kColumns = sizeof(Judged) / sizeof(double);

Judged judge(const double* scores, std::int64_t classes, std::int64_t label) {
  std::int64_t best = -1, ahead = 0;
  const double own = scores[label];
  for (std::int64_t c = 0; c < classes; ++c) {
    const double score = scores[c];
    if (std::isnan(score)) continue;
    if (best < 0 || score > scores[best]) best = c;
    ahead += score > own || (score == own && c < label);
  }
  // Beside a score that is no number every class counts as ahead.
  if (std::isnan(own)) ahead = classes;
  return {static_cast<double>(label), static_cast<double>(best), static_cast<double>(ahead), best < 0 ? own : scores[best]};
}

std::vector<Judged> judgements(const std::vector<double>& rows) {
  std::vector<Judged> all;
  for (std::size_t i = 0; i < rows.size(); i += kColumns) all.push_back({rows[i], rows[i + 1], rows[i + 2], rows[i + 3]});
  return all;
}

double percent(double part, double whole) { return 100.0 * part / whole; }

/// Nothing when a confidence is no probability.
std::optional<double> calibration_error(const std::vector<Judged>& samples, int bins) {
  struct Bin {
    double right = 0, confidence = 0;
  };
  std::vector<Bin> sums(static_cast<std::size_t>(bins));
  for (const Judged& each : samples) {
    if (!(each.confidence >= 0 && each.confidence <= 1)) return std::nullopt;
    // Bin i is (i / bins, (i + 1) / bins]; 0 goes into the first.
    const double place = std::ceil(each.confidence * bins) - 1;
    Bin& bin = sums[static_cast<std::size_t>(std::max(place, 0.0))];
    bin.right += each.rank_of_label == 0;
    bin.confidence += each.confidence;
  }
  double error = 0;
  for (const Bin& bin : sums) error += std::fabs(bin.right - bin.confidence);
  return percent(error, static_cast<double>(samples.size()));
}

}  // namespace

void validate(const ClassificationEvaluatorOptions& options) {
  if (options.calibration_bins < 0) {
    throw ConfigError(
        fmt::format("ClassificationEvaluatorOptions.calibration_bins is {}; at least 0 is needed (0: no calibration "
                    "error)",
                    options.calibration_bins),
        "ClassificationEvaluatorOptions.calibration_bins");
  }
}

ClassificationEvaluator::ClassificationEvaluator(ClassificationEvaluatorOptions options)
    : options_(std::move(options)), rows_(std::make_unique<SampleRows>(kColumns)) {
  validate(options_);
  if (!options_.group) options_.group = make_single_process_group();
}

ClassificationEvaluator::~ClassificationEvaluator() = default;

void ClassificationEvaluator::reset() {
  rows_->clear();
  num_classes_ = 0;
}

void ClassificationEvaluator::process(const Batch& inputs, const List& outputs) {
  if (outputs.empty()) return;
  const at::Tensor labels = inputs.tensor("label").cpu().to(at::kLong).contiguous();
  std::vector<at::Tensor> rows;
  for (const Value& output : outputs) {
    rows.push_back(ValueView(output, "prediction")["scores"].as_tensor());
    const at::Tensor& row = rows.back();
    if (row.dim() != 1 || (num_classes_ != 0 && row.size(0) != num_classes_)) {
      throw FormatError(fmt::format("the \"scores\" of a prediction are of the shape [{}], expected [{}]",
                                    fmt::join(row.sizes(), ", "), num_classes_ == 0 ? "classes" : std::to_string(num_classes_)));
    }
    num_classes_ = row.size(0);
  }
  if (labels.numel() != static_cast<std::int64_t>(rows.size())) {
    throw FormatError(fmt::format("\"label\" holds {} numbers for {} predictions, expected that of one class for each",
                                  labels.numel(), rows.size()));
  }
  const at::Tensor scores = at::stack(rows).cpu().to(at::kDouble).contiguous();
  for (std::size_t i = 0; i < rows.size(); ++i) {
    const std::int64_t label = labels.const_data_ptr<std::int64_t>()[i];
    if (label < 0 || label >= num_classes_)
      throw FormatError(fmt::format("the label {} is not among the {} classes of the scores", label, num_classes_));
    const double* row = scores.const_data_ptr<double>() + static_cast<std::int64_t>(i) * num_classes_;
    const Judged judged = judge(row, num_classes_, label);
    rows_->add(inputs, i, std::array{judged.label, judged.predicted, judged.rank_of_label, judged.confidence});
  }
}

std::string ClassificationEvaluator::class_name(std::int64_t label) const {
  const auto place = static_cast<std::size_t>(label);
  return place < options_.class_names.size() ? options_.class_names[place] : std::to_string(label);
}

void ClassificationEvaluator::count(const std::vector<double>& rows, std::int64_t classes) {
  confusion_ = at::zeros({classes, classes}, at::kLong);
  auto* counts = confusion_.mutable_data_ptr<std::int64_t>();
  for (const Judged& each : judgements(rows)) {
    if (each.predicted >= 0)
      ++counts[static_cast<std::int64_t>(each.label) * classes + static_cast<std::int64_t>(each.predicted)];
  }
}

Dict ClassificationEvaluator::evaluate() {
  const std::vector<double> rows = rows_->gather(*options_.group);
  const List classes_of = options_.group->gather(num_classes_);
  if (!options_.group->is_main_process()) return {};
  std::int64_t classes = 0;
  for (const Value& rank : classes_of) classes = std::max(classes, rank.as_int());
  if (rows.empty()) throw FormatError("there was nothing to evaluate: the data set gave no samples");

  const std::vector<Judged> samples = judgements(rows);
  const auto total = static_cast<double>(samples.size());
  double first = 0, among_five = 0;
  std::vector<double> right(static_cast<std::size_t>(classes)), of_class(right);
  for (const Judged& each : samples) {
    first += each.rank_of_label == 0;
    among_five += each.rank_of_label < 5;
    of_class[static_cast<std::size_t>(each.label)] += 1;
    right[static_cast<std::size_t>(each.label)] += each.rank_of_label == 0;
  }
  Dict metrics{{"accuracy", percent(first, total)}};
  if (classes > 5) metrics.set("top5_accuracy", percent(among_five, total));
  if (options_.calibration_bins > 0) {
    if (const auto error = calibration_error(samples, options_.calibration_bins)) metrics.set("calibration_error", *error);
  }
  metrics.set("num_samples", static_cast<std::int64_t>(samples.size()));
  for (std::int64_t c = 0; options_.per_class && c < classes; ++c) {
    const auto place = static_cast<std::size_t>(c);
    if (of_class[place] > 0) metrics.set("accuracy-" + class_name(c), percent(right[place], of_class[place]));
  }
  count(rows, classes);
  if (!options_.output_dir.empty()) write_confusion_matrix();
  return {{options_.task, std::move(metrics)}};
}

void ClassificationEvaluator::write_confusion_matrix() const {
  const auto quoted = [](std::string name) {
    if (name.find_first_of(",\"\n") == std::string::npos) return name;
    for (std::size_t at = 0; (at = name.find('"', at)) != std::string::npos; at += 2) name.insert(at, 1, '"');
    return '"' + name + '"';
  };
  const std::int64_t classes = confusion_.size(0);
  std::string text = "true class";
  for (std::int64_t c = 0; c < classes; ++c) text += "," + quoted(class_name(c));
  for (std::int64_t c = 0; c < classes; ++c) {
    text += "\n" + quoted(class_name(c));
    for (std::int64_t p = 0; p < classes; ++p)
      text += fmt::format(",{}", confusion_.const_data_ptr<std::int64_t>()[c * classes + p]);
  }
  const std::filesystem::path file = options_.output_dir / "confusion_matrix.csv";
  std::error_code code;
  std::filesystem::create_directories(options_.output_dir, code);
  // The file of an earlier evaluation stays whole until this one is.
  const std::filesystem::path temporary = file.string() + ".tmp";
  errno = 0;
  std::ofstream stream(temporary, std::ios::binary | std::ios::trunc);
  stream << text << '\n';
  stream.close();
  if (!stream) throw IoError("write", file, errno != 0 ? errno : EIO);
  std::filesystem::rename(temporary, file, code);
  if (code) throw IoError("write", file, code.value());
}

}  // namespace treadle

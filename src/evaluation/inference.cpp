#include <treadle/base/errors.hpp>
#include <treadle/base/log.hpp>
#include <treadle/base/module_state.hpp>
#include <treadle/base/text.hpp>
#include <treadle/comm/group.hpp>
#include <treadle/data/batch_source.hpp>
#include <treadle/evaluation/evaluator.hpp>
#include <treadle/evaluation/inference.hpp>
#include <treadle/models/model.hpp>

#include <c10/core/GradMode.h>
#include <fmt/format.h>

#include <chrono>

namespace treadle {
namespace {

using Clock = std::chrono::steady_clock;

double seconds_since(Clock::time_point start) { return std::chrono::duration<double>(Clock::now() - start).count(); }

/// Logs every few seconds, so that short passes stay silent.
class Progress {
 public:
  explicit Progress(std::optional<std::int64_t> batches) : batches_(batches) {}

  void batch_done(std::int64_t samples) {
    samples_ += samples;
    ++done_;
    if (seconds_since(last_report_) < kPeriodSeconds) return;
    last_report_ = Clock::now();
    const double elapsed = seconds_since(start_);
    const std::string of = batches_ ? fmt::format("/{}", *batches_) : "";
    const std::string eta = batches_ ? fmt::format(" ETA={}", format_duration(elapsed / static_cast<double>(done_) *
                                                                              static_cast<double>(*batches_ - done_)))
                                     : "";
    log_info(fmt::format("Inference done {}{}. {:.4f} s/sample.{}", done_, of, elapsed / static_cast<double>(samples_), eta));
  }

  void finished() const {
    const double elapsed = seconds_since(start_);
    log_info(fmt::format("Total inference time: {} ({} samples, {:.6f} s/sample)", format_duration(elapsed), samples_,
                         samples_ ? elapsed / static_cast<double>(samples_) : 0.0));
  }

 private:
  static constexpr double kPeriodSeconds = 5;
  std::optional<std::int64_t> batches_;
  std::int64_t samples_ = 0, done_ = 0;
  Clock::time_point start_ = Clock::now(), last_report_ = start_;
};

c10::Device device_of(const Model& model) {
  const auto parameters = named_parameters(model);
  return parameters.empty() ? c10::Device(c10::kCPU) : parameters.front().tensor.device();
}

}  // namespace

Dict inference_on_dataset(Model& model, BatchSource& source, DatasetEvaluator& evaluator, Group& group) {
  const EvaluationMode evaluation(model);
  const c10::AutoGradMode no_gradients(false);
  const c10::Device device = device_of(model);
  source.rewind();
  evaluator.reset();
  Progress progress(source.batches_per_pass());
  while (auto batch = source.next()) {
    const List outputs = model.predict(device.is_cpu() ? *batch : batch->to(device));
    if (static_cast<std::int64_t>(outputs.size()) != batch->size()) {
      throw FormatError(fmt::format("the model gave {} predictions for the {} samples of a batch of \"{}\"", outputs.size(),
                                    batch->size(), source.name()));
    }
    evaluator.process(*batch, outputs);
    progress.batch_done(batch->size());
  }
  progress.finished();
  group.synchronize();
  return evaluator.evaluate();
}

}  // namespace treadle

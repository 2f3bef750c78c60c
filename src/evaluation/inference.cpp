#include <evaluation/model_device.hpp>
#include <treadle/base/device.hpp>
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

#include <algorithm>
#include <chrono>
#include <utility>

namespace treadle {
namespace {

/// Keeps the time of a pass and logs its progress.
class Stopwatch {
 public:
  Stopwatch(const InferenceOptions& options, std::optional<std::int64_t> batches) : options_(options), batches_(batches) {
    warmup_ = options.warmup_batches;
    // At least one batch counts.
    if (batches_) warmup_ = std::min(warmup_, std::max<std::int64_t>(*batches_ - 1, 0));
    started_ = lap_ = reported_ = now();
  }
  ~Stopwatch() {
    if (options_.times != nullptr) *options_.times = times_;
  }
  Stopwatch(const Stopwatch&) = delete;
  Stopwatch& operator=(const Stopwatch&) = delete;

  void data_is_there() {
    times_.data += lap();
    // The wait for the first batch that counts belongs to the warm-up, as in Detectron2: a loader may have been starting until
    // then.
    if (done_ == warmup_) {
      times_ = {};
      started_ = lap_;
    }
  }
  void model_is_done() { times_.compute += lap(); }
  void batch_is_done(std::int64_t samples) {
    times_.evaluation += lap();
    times_.total = lap_ - started_;
    times_.samples += samples;
    ++times_.batches;
    ++done_;
    if (lap_ - reported_ < options_.report_seconds) return;
    reported_ = lap_;
    const std::string of = batches_ ? fmt::format("/{}", *batches_) : "";
    const double per_batch = times_.total / static_cast<double>(times_.batches);
    const std::string eta =
        batches_ ? fmt::format(" ETA={}", format_duration(per_batch * static_cast<double>(*batches_ - done_))) : "";
    log_info(fmt::format("Inference done {}{}. {}{}", done_, of, per_sample(), eta));
  }
  void finished(int ranks) const {
    log_info(fmt::format("Total inference time: {} ({} samples after warm-up, on {} {}). {}", format_duration(times_.total),
                         times_.samples, ranks, ranks == 1 ? "process" : "processes, this one", per_sample()));
  }

 private:
  double now() const {
    if (options_.clock) return options_.clock();
    return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
  }
  double lap() {
    const double before = std::exchange(lap_, now());
    return lap_ - before;
  }
  std::string per_sample() const {
    const double samples = static_cast<double>(std::max<std::int64_t>(times_.samples, 1));
    return fmt::format("Dataloading: {:.6f} s/sample. Inference: {:.6f} s/sample. Eval: {:.6f} s/sample. Total: {:.6f} s/sample.",
                       times_.data / samples, times_.compute / samples, times_.evaluation / samples, times_.total / samples);
  }

  const InferenceOptions& options_;
  std::optional<std::int64_t> batches_;
  std::int64_t warmup_ = 0, done_ = 0;
  InferenceTimes times_;
  double started_ = 0, lap_ = 0, reported_ = 0;
};

}  // namespace

void validate(const InferenceOptions& options) {
  const auto require = [](bool holds, const char* field, const char* range) {
    if (!holds) throw ConfigError(fmt::format("{} must be {}", field, range), field);
  };
  require(options.warmup_batches >= 0, "InferenceOptions.warmup_batches", "at least 0");
  require(options.report_seconds > 0, "InferenceOptions.report_seconds", "above 0");
}

Dict inference_on_dataset(Model& model, BatchSource& source, DatasetEvaluator& evaluator, Group& group,
                          const InferenceOptions& options) {
  validate(options);
  const EvaluationMode evaluation(model);
  const c10::AutoGradMode no_gradients(false);
  const c10::Device device = device_of(model);
  source.rewind();
  evaluator.set_model(model);
  evaluator.reset();
  Stopwatch watch(options, source.batches_per_pass());
  while (auto batch = source.next()) {
    watch.data_is_there();
    const List outputs = model.predict(device.is_cpu() ? *batch : batch->to(device));
    synchronize_device(device);
    watch.model_is_done();
    if (static_cast<std::int64_t>(outputs.size()) != batch->size()) {
      throw FormatError(fmt::format("the model gave {} predictions for the {} samples of a batch of \"{}\"", outputs.size(),
                                    batch->size(), source.name()));
    }
    evaluator.process(*batch, outputs);
    watch.batch_is_done(batch->size());
  }
  watch.finished(group.get_world_size());
  group.synchronize();
  return evaluator.evaluate();
}

}  // namespace treadle

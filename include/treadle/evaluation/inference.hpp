#pragma once

#include <treadle/base/value.hpp>

#include <functional>

namespace treadle {

class BatchSource;
class DatasetEvaluator;
class Group;
class Model;

/// Where the time of a pass went on this rank, in seconds, without the first batches.
struct InferenceTimes {
  std::int64_t batches = 0, samples = 0;  ///< that the seconds belong to
  double data = 0;                        ///< waiting for batches
  double compute = 0;                     ///< the model, until its device is done
  double evaluation = 0;                  ///< the evaluator's `process`
  double total = 0;                       ///< all of it
};

struct InferenceOptions {
  /// The first batches are not timed, since memory and kernels are set up in them; at least the last one of a pass whose length
  /// is known is, and all of one that is shorter. At least 0.
  std::int64_t warmup_batches = 5;
  double report_seconds = 5;        ///< between lines of progress in the log, above 0; short passes log none
  InferenceTimes* times = nullptr;  ///< is filled when given, after an error too
  std::function<double()> clock{};  ///< seconds from some start; empty for the steady clock
};
/// Throws ConfigError that names the field and its range.
void validate(const InferenceOptions& options);

/// Runs `model` in evaluation mode, without gradients, over one pass of `source` and returns what `evaluator` makes of it: the
/// results on the main process, an empty Dict elsewhere. Modes of the model and its children are restored, after an exception
/// too. Logs progress with the time left, and at the end the seconds per sample for data, model and evaluator. A collective; loop
/// thread only. Throws FormatError when the model gives another number of predictions than there are samples.
Dict inference_on_dataset(Model& model, BatchSource& source, DatasetEvaluator& evaluator, Group& group,
                          const InferenceOptions& options = {});

}  // namespace treadle

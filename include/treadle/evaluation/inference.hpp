#pragma once

#include <treadle/base/value.hpp>

namespace treadle {

class BatchSource;
class DatasetEvaluator;
class Group;
class Model;

/// Runs `model` in evaluation mode, without gradients, over one pass of `source` and returns what `evaluator` makes of it: the
/// results on the main process, an empty Dict elsewhere. Modes of the model and its children are restored, after an exception
/// too. Long passes log their progress with the seconds per sample. A collective; loop thread only. Throws FormatError when the
/// model gives another number of predictions than there are samples.
Dict inference_on_dataset(Model& model, BatchSource& source, DatasetEvaluator& evaluator, Group& group);

}  // namespace treadle

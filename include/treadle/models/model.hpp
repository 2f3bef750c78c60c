#pragma once

#include <treadle/base/batch.hpp>
#include <treadle/models/loss_dict.hpp>

#include <torch/nn/module.h>

#include <string>
#include <utility>
#include <vector>

namespace treadle {

/// A module that Treadle can train: it computes its own losses and its own predictions. Loop thread only.
/// Held as `std::shared_ptr<Model>`, since LibTorch shares modules. A model that lacks a field of the batch throws FormatError
/// that says which fields it was given (`Batch::tensor` does).
class Model : public torch::nn::Module {
 public:
  using torch::nn::Module::Module;

  /// The losses of `batch`, with gradients, in training mode.
  virtual LossDict losses(const Batch& batch) = 0;
  /// One Dict per sample of `batch`, in its order: what evaluators read ("scores", "boxes", …).
  virtual List predict(const Batch& batch) = 0;
  /// Full names of buffers that stay out of checkpoints. LibTorch has no mark of its own for them.
  virtual std::vector<std::string> non_persistent() const { return {}; }
  /// The state that a file holds for this model, under the names and in the form of this version: for weights that other programs
  /// or earlier versions saved. Called before the state is compared with the model; what it leaves strange is reported then.
  virtual Dict upgrade_state(Dict state) const { return state; }
};

}  // namespace treadle

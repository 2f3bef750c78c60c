#pragma once

#include <treadle/models/model.hpp>

#include <filesystem>

namespace treadle {

/// How the inputs, losses and predictions of a TorchScript file map to those of a Model.
struct ScriptedModelOptions {
  std::filesystem::path file{};                 ///< as `torch.jit.script(module).save(file)` writes it; needed
  std::vector<std::string> inputs = {"image"};  ///< the fields of a batch that `forward` takes, in its order; at least one
  /// What is minimized: a function of the output of `forward` and the field `target`, or, with `method`, what a method of the
  /// module returns.
  enum class Loss { cross_entropy, mse, method } loss = Loss::cross_entropy;
  std::string target = "label";                               ///< for `cross_entropy` (class numbers) and `mse`
  std::string loss_method = "losses";                         ///< for `method`; returns a scalar, or a dict of scalars by name
  std::vector<std::string> loss_inputs = {"image", "label"};  ///< the fields that `loss_method` takes, in its order
  std::string prediction = "scores";  ///< under which a prediction has its row of the output; a dict has its own names
  bool softmax = true;                ///< predictions are probabilities: the softmax of the output over its dimension 1
};
/// Throws ConfigError that names the field and its range.
void validate(const ScriptedModelOptions& options);

/// A TorchScript file, exported by Python, as a model to train. Its parameters and buffers stand in child modules under the names
/// that they have in Python, as the same tensors. Float inputs are expected: an image of bytes becomes float32. Loop thread only.
///
/// Such a file is a program: load only those you trust. Constants inside it stay on the device they were exported from.
class ScriptedModel final : public Model {
 public:
  /// Throws IoError when the file cannot be read, FormatError when it is no TorchScript file or lacks the method.
  explicit ScriptedModel(const ScriptedModelOptions& options);
  ~ScriptedModel() override;
  void train(bool on = true) override;
  /// {"loss": …}, or what `loss_method` names. FormatError when the script returns something else, or for `mse` an output of
  /// another shape than the target.
  LossDict losses(const Batch& batch) override;
  List predict(const Batch& batch) override;

 private:
  struct Script;
  ScriptedModelOptions options_;
  std::unique_ptr<Script> script_;
};

}  // namespace treadle

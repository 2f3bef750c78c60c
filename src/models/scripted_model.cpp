#include <treadle/base/errors.hpp>
#include <treadle/models/scripted_model.hpp>

#include <ATen/ops/cross_entropy_loss.h>
#include <ATen/ops/mse_loss.h>
#include <fmt/format.h>
#include <torch/csrc/jit/api/module.h>
#include <torch/csrc/jit/serialization/import.h>

#include <cerrno>
#include <fstream>
#include <map>

namespace treadle {

struct ScriptedModel::Script {
  torch::jit::Module module;

  c10::IValue call(const std::string& method, const std::vector<std::string>& fields, const Batch& batch) {
    std::vector<c10::IValue> inputs;
    for (const std::string& field : fields) {
      const at::Tensor& tensor = batch.tensor(field);
      inputs.emplace_back(tensor.scalar_type() == at::kByte ? tensor.to(at::kFloat) : tensor);
    }
    return module.get_method(method)(std::move(inputs));
  }
};

namespace {

void require(bool holds, const std::string& field, const std::string& range) {
  if (!holds) throw ConfigError(fmt::format("ScriptedModelOptions.{} must be {}", field, range), "ScriptedModelOptions." + field);
}

torch::jit::Module load_script(const std::filesystem::path& file) {
  errno = 0;
  std::ifstream stream(file, std::ios::binary);
  if (!stream || std::filesystem::is_directory(file)) throw IoError("read", file, errno != 0 ? errno : EISDIR);
  try {
    return torch::jit::load(stream);
  } catch (const c10::Error& error) {
    // Its second sentence is about the library that reads archives, and guesses.
    const std::string text = error.what_without_backtrace();
    throw FormatError(fmt::format("this is no TorchScript file, as torch.jit.script(module).save(file) writes it: {}",
                                  text.substr(0, text.find(". This is an internal"))),
                      file);
  } catch (const std::exception& error) {
    // Of a program that this LibTorch does not understand; behind the first line comes the place in the source.
    std::string text = error.what();
    text.erase(0, text.find_first_not_of('\n'));
    throw FormatError(fmt::format("this script cannot be read: {}", text.substr(0, text.find('\n'))), file);
  }
}

/// Puts parameters, buffers and children of `from` into `into`, which share their tensors.
void mirror(const torch::jit::Module& from, torch::nn::Module& into) {
  for (const auto& parameter : from.named_parameters(/*recurse=*/false))
    into.register_parameter(parameter.name, parameter.value, parameter.value.requires_grad());
  for (const auto& buffer : from.named_buffers(/*recurse=*/false)) into.register_buffer(buffer.name, buffer.value);
  for (const auto& child : from.named_children()) {
    auto module = std::make_shared<torch::nn::Module>(child.name);
    mirror(child.value, *module);
    into.register_module(child.name, module);
  }
}

std::map<std::string, at::Tensor> named_tensors(const c10::IValue& value, const std::string& what) {
  std::map<std::string, at::Tensor> tensors;
  if (!value.isGenericDict())
    throw FormatError(fmt::format("{} must be a tensor or a dict of tensors, found {}", what, value.tagKind()));
  for (const auto& entry : value.toGenericDict()) {
    if (!entry.key().isString() || !entry.value().isTensor())
      throw FormatError(fmt::format("{} must be a dict of tensors by name", what));
    tensors.emplace(entry.key().toStringRef(), entry.value().toTensor());
  }
  return tensors;
}

}  // namespace

void validate(const ScriptedModelOptions& options) {
  require(!options.file.empty(), "file", "the path of a TorchScript file");
  require(!options.inputs.empty(), "inputs", "at least one field of the batch");
  require(options.loss != ScriptedModelOptions::Loss::method || !options.loss_method.empty(), "loss_method",
          "the name of a method");
  require(!options.prediction.empty(), "prediction", "a name");
}

ScriptedModel::ScriptedModel(const ScriptedModelOptions& options) : Model("ScriptedModel"), options_(options) {
  validate(options_);
  script_ = std::make_unique<Script>(Script{load_script(options_.file)});
  for (const std::string& method : {std::string("forward"), options_.loss_method}) {
    const bool needed = method == "forward" || options_.loss == ScriptedModelOptions::Loss::method;
    if (needed && !script_->module.find_method(method))
      throw FormatError(fmt::format("the script has no method \"{}\"; was it exported with @torch.jit.export?", method),
                        options_.file);
  }
  mirror(script_->module, *this);
  train(script_->module.is_training());
}

ScriptedModel::~ScriptedModel() = default;

void ScriptedModel::train(bool on) {
  Model::train(on);
  script_->module.train(on);
}

LossDict ScriptedModel::losses(const Batch& batch) {
  using Loss = ScriptedModelOptions::Loss;
  if (options_.loss == Loss::method) {
    const c10::IValue value = script_->call(options_.loss_method, options_.loss_inputs, batch);
    if (value.isTensor()) return {{"loss", value.toTensor()}};
    LossDict losses;
    for (auto& [name, loss] : named_tensors(value, "what \"" + options_.loss_method + "\" returns"))
      losses.emplace_back(name, loss);
    return losses;
  }
  const at::Tensor& target = batch.tensor(options_.target);
  const c10::IValue value = script_->call("forward", options_.inputs, batch);
  if (!value.isTensor())
    throw FormatError("for this loss \"forward\" must return a tensor; let a method of the script compute the losses instead");
  const at::Tensor& output = value.toTensor();
  if (options_.loss == Loss::cross_entropy) return {{"loss", at::cross_entropy_loss(output, target)}};
  // LibTorch would stretch [N, 1] and [N] to [N, N], and compare every sample with every other.
  if (output.sizes() != target.sizes()) {
    throw FormatError(fmt::format("for this loss \"forward\" must return a tensor of the shape of the field \"{}\", {}; found {}",
                                  options_.target, describe(target), describe(output)));
  }
  return {{"loss", at::mse_loss(output, target)}};
}

List ScriptedModel::predict(const Batch& batch) {
  const c10::IValue value = script_->call("forward", options_.inputs, batch);
  std::map<std::string, at::Tensor> fields;
  if (value.isTensor()) {
    const at::Tensor& output = value.toTensor();
    fields.emplace(options_.prediction, options_.softmax ? output.softmax(1) : output);
  } else {
    fields = named_tensors(value, "what \"forward\" returns");
  }
  List predictions;
  for (std::int64_t i = 0; i < batch.size(); ++i) {
    Dict prediction;
    for (const auto& [name, tensor] : fields) {
      if (tensor.dim() == 0 || tensor.size(0) != batch.size())
        throw FormatError(
            fmt::format("the output \"{}\" of the script has no row for each of the {} samples", name, batch.size()));
      prediction.set(name, tensor[i]);
    }
    predictions.push_back(std::move(prediction));
  }
  return predictions;
}

}  // namespace treadle

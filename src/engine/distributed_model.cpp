#include "engine/unit_gradient.hpp"

#include <treadle/base/errors.hpp>
#include <treadle/base/module_state.hpp>
#include <treadle/comm/group.hpp>
#include <treadle/engine/distributed_model.hpp>

#include <ATen/core/grad_mode.h>

namespace treadle {

DistributedModel::DistributedModel(std::shared_ptr<Model> model, std::shared_ptr<Group> group, DistributedOptions options)
    : Model(model ? model->name() : "Model"),
      model_(std::move(model)),
      group_(std::move(group)),
      options_(std::move(options)),
      unit_gradient_(std::make_unique<UnitGradient>()) {
  if (!model_) throw Error("DistributedModel needs a model, found a null pointer");
  if (!group_ || group_->get_world_size() == 1) throw Error("DistributedModel needs a group of several processes");
  validate(options_.gradients);
  // The model itself is not registered as a child, which would put a prefix before every name: its entries are, one by one.
  for (const auto& parameter : model_->named_parameters(/*recurse=*/false)) {
    register_parameter(parameter.key(), parameter.value(), parameter.value().requires_grad());
  }
  for (const auto& buffer : model_->named_buffers(/*recurse=*/false)) register_buffer(buffer.key(), buffer.value());
  for (const auto& child : model_->named_children()) register_module(child.key(), child.value());
  if (!model_->is_training()) take_mode();
  connect();
}

DistributedModel::~DistributedModel() = default;

void DistributedModel::connect() {
  reducer_.reset();  // before the next one is made: both hang on the same parameters
  const std::vector<NamedTensor> parameters = treadle::named_parameters(*model_);
  reducer_ = group_->make_gradient_reducer(parameters, options_.gradients);
  std::vector<at::Tensor> tensors;
  for (const NamedTensor& parameter : parameters) tensors.push_back(parameter.tensor.detach());
  for (const NamedTensor& buffer : treadle::named_buffers(*model_)) tensors.push_back(buffer.tensor.detach());
  reducer_->broadcast(tensors, 0);
  generation_ = group_->generation();
}

/// `train` sets the children too, whose modes are the model's own business here.
void DistributedModel::take_mode() {
  std::vector<std::pair<std::shared_ptr<torch::nn::Module>, bool>> modes;
  for (const auto& child : model_->modules(/*include_self=*/false)) modes.emplace_back(child, child->is_training());
  Model::train(false);
  for (auto& [child, on] : modes) child->train(on);
}

void DistributedModel::train(bool on) {
  Model::train(on);
  model_->train(on);
}

LossDict DistributedModel::losses(const Batch& batch) {
  if (!at::GradMode::is_enabled()) return model_->losses(batch);
  if (generation_ != group_->generation()) connect();
  if (options_.broadcast_buffers && sync_) {
    std::vector<at::Tensor> buffers;
    for (const NamedTensor& buffer : treadle::named_buffers(*model_)) buffers.push_back(buffer.tensor.detach());
    reducer_->broadcast(buffers, 0);
  }
  LossDict losses = model_->losses(batch);
  reduces_ = sync_;
  if (!sync_) return losses;
  std::vector<at::Tensor> outputs;
  for (const auto& [name, loss] : losses) outputs.push_back(loss);
  reducer_->prepare(outputs);
  return losses;
}

void DistributedModel::backward(const at::Tensor& loss) {
  try {
    unit_gradient_->backward(loss);
  } catch (const std::exception& failure) {
    reducer_->explain(failure);
    throw;
  }
  if (reduces_) reducer_->check_reduced();
}

std::shared_ptr<Model> create_ddp_model(std::shared_ptr<Model> model, std::shared_ptr<Group> group, DistributedOptions options) {
  if (!group || group->get_world_size() == 1) return model;
  return std::make_shared<DistributedModel>(std::move(model), std::move(group), std::move(options));
}

}  // namespace treadle

#include <treadle/base/errors.hpp>
#include <treadle/base/module_state.hpp>
#include <treadle/base/text.hpp>

#include <fmt/ranges.h>
#include <torch/nn/module.h>

#include <algorithm>

namespace treadle {
namespace {

template <class OrderedTensors>
std::vector<NamedTensor> to_vector(const OrderedTensors& tensors) {
  std::vector<NamedTensor> result;
  result.reserve(tensors.size());
  for (const auto& item : tensors) result.push_back({item.key(), item.value()});
  return result;
}

// LibTorch's recursive `named_parameters` lists all parameters of the tree before any buffer; Python goes module by module.
void append_state(const torch::nn::Module& module, const std::string& prefix, std::vector<NamedTensor>& result) {
  for (const auto& item : module.named_parameters(/*recurse=*/false)) result.push_back({prefix + item.key(), item.value()});
  for (const auto& item : module.named_buffers(/*recurse=*/false)) result.push_back({prefix + item.key(), item.value()});
  for (const auto& child : module.named_children()) append_state(*child.value(), prefix + child.key() + ".", result);
}

std::vector<NamedTensor> state_tensors(const torch::nn::Module& module, const std::vector<std::string>& skip) {
  std::vector<NamedTensor> tensors;
  append_state(module, "", tensors);
  std::erase_if(tensors, [&](const NamedTensor& named) {
    return !named.tensor.defined() || std::find(skip.begin(), skip.end(), named.name) != skip.end();
  });
  return tensors;
}

struct Mismatch {
  std::vector<std::string> missing, unexpected, shapes;
  bool any() const { return !missing.empty() || !unexpected.empty() || !shapes.empty(); }
};

std::string shape(const at::Tensor& tensor) { return fmt::format("[{}]", fmt::join(tensor.sizes(), ", ")); }

Mismatch find_mismatch(const std::vector<NamedTensor>& own, const Dict& state, const std::vector<std::string>& skip) {
  Mismatch mismatch;
  Dict known;
  for (const NamedTensor& named : own) {
    known.set(named.name, true);
    const Value* value = state.find(named.name);
    if (value == nullptr) {
      mismatch.missing.push_back(named.name);
    } else if (!value->is(Value::Type::tensor)) {
      mismatch.shapes.push_back(fmt::format("{} is no Tensor but {}", named.name, to_string(value->type())));
    } else if (value->as_tensor().sizes() != named.tensor.sizes()) {
      mismatch.shapes.push_back(
          fmt::format("{} has {} here and {} in the state", named.name, shape(named.tensor), shape(value->as_tensor())));
    }
  }
  for (const auto& entry : state) {
    const std::string name = entry.key.to_string();
    if (!known.contains(entry.key) && std::find(skip.begin(), skip.end(), name) == skip.end())
      mismatch.unexpected.push_back(name);
  }
  return mismatch;
}

}  // namespace

std::vector<NamedTensor> named_parameters(const torch::nn::Module& module) { return to_vector(module.named_parameters()); }
std::vector<NamedTensor> named_buffers(const torch::nn::Module& module) { return to_vector(module.named_buffers()); }

Dict module_state_dict(const torch::nn::Module& module, const std::vector<std::string>& skip) {
  Dict state;
  for (NamedTensor& named : state_tensors(module, skip)) state.set(std::move(named.name), named.tensor.detach());
  return state;
}

void check_module_state_dict(const torch::nn::Module& module, const Dict& state, const std::vector<std::string>& skip) {
  const Mismatch mismatch = find_mismatch(state_tensors(module, skip), state, skip);
  if (!mismatch.any()) return;
  std::string text = "the state does not fit the model:";
  if (!mismatch.missing.empty()) text += " missing " + quoted_list(mismatch.missing) + ";";
  if (!mismatch.unexpected.empty()) text += " unexpected " + quoted_list(mismatch.unexpected) + ";";
  if (!mismatch.shapes.empty()) text += fmt::format(" {};", fmt::join(mismatch.shapes, "; "));
  text.pop_back();
  throw FormatError(text);
}

void load_module_state_dict(torch::nn::Module& module, const Dict& state, const std::vector<std::string>& skip) {
  check_module_state_dict(module, state, skip);
  for (NamedTensor& named : state_tensors(module, skip)) named.tensor.detach().copy_(state.at(named.name).as_tensor());
}

void set_training(torch::nn::Module& module, bool on) { module.train(on); }
bool is_training(const torch::nn::Module& module) noexcept { return module.is_training(); }

EvaluationMode::EvaluationMode(torch::nn::Module& module) {
  modes_.emplace_back(&module, module.is_training());
  for (const auto& each : module.modules(/*include_self=*/false)) modes_.emplace_back(each.get(), each->is_training());
  module.eval();
}

EvaluationMode::~EvaluationMode() {
  // Parents stand before their children: `train` of a parent sets the whole subtree, which the children then correct.
  for (auto& [module, on] : modes_) module->train(on);
}

}  // namespace treadle

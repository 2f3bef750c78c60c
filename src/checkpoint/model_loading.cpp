#include "checkpoint/model_loading.hpp"

#include "base/tensor_copy.hpp"
#include "checkpoint/key_report.hpp"

#include <treadle/base/errors.hpp>

#include <ATen/core/Tensor.h>
#include <c10/core/GradMode.h>
#include <fmt/format.h>

#include <algorithm>

namespace treadle {

void check_tensors(const Dict& state) {
  for (const auto& entry : state) {
    if (!entry.key.is_string())
      throw FormatError(fmt::format("\"model\" of the checkpoint has the key {}, which is no text", entry.key.to_string()));
    if (!entry.value.is(Value::Type::tensor)) {
      throw FormatError(fmt::format("\"model\" of the checkpoint has a {} instead of a Tensor under \"{}\"",
                                    to_string(entry.value.type()), entry.key.string()));
    }
  }
}

ModelLoad match_model(const torch::nn::Module& module, Dict state, const std::vector<std::string>& skip) {
  check_tensors(state);
  auto skipped = [&](const std::string& name) { return std::find(skip.begin(), skip.end(), name) != skip.end(); };
  Dict own = module_state_dict(module);
  ModelLoad load;
  for (auto& entry : state) {
    const std::string& name = entry.key.string();
    const Value* target = own.find(entry.key);
    if (!target) {
      if (!skipped(name)) load.incompatible.unexpected_keys.push_back(name);
      continue;
    }
    auto shape = entry.value.as_tensor().sizes();
    auto wanted = target->as_tensor().sizes();
    if (shape != wanted) {
      load.incompatible.incorrect_shapes.push_back({name, shape.vec(), wanted.vec()});
    } else {
      const std::string obstacle = obstacle_to_copy(target->as_tensor(), entry.value.as_tensor());
      if (!obstacle.empty())
        throw FormatError(fmt::format("\"{}\" of the checkpoint cannot become the model's: {}", name, obstacle));
      load.state.set(entry.key, std::move(entry.value));
    }
  }
  for (const auto& entry : own) {
    if (!load.state.contains(entry.key) && !skipped(entry.key.string()))
      load.incompatible.missing_keys.push_back(entry.key.string());
  }
  return load;
}

void copy_into_module(torch::nn::Module& module, const Dict& state) {
  at::NoGradGuard no_grad;
  Dict own = module_state_dict(module);
  for (const auto& entry : state) {
    at::Tensor target = own.at(entry.key).as_tensor();
    target.copy_(entry.value.as_tensor());
  }
}

std::vector<std::string> key_names(const Dict& dict) {
  std::vector<std::string> names;
  for (const auto& entry : dict) names.push_back(entry.key.to_string());
  return names;
}

}  // namespace treadle

#pragma once

// A small model and its data, for tests of several processes.

#include "tests/support/ranks.hpp"

#include <treadle/base/module_state.hpp>
#include <treadle/data/batch_source.hpp>
#include <treadle/models/make_model.hpp>

#include <ATen/ops/arange.h>
#include <torch/nn/modules/linear.h>

#include <functional>
#include <memory>
#include <string>

namespace treadle {

inline constexpr int kSizes[] = {2, 3, 4};
constexpr std::int64_t kFeatures = 7, kShard = 5;

inline bool contains(const std::string& text, const std::string& part) { return text.find(part) != std::string::npos; }

/// Two layers, a buffer, and a parameter that only some batches use.
struct Net final : torch::nn::Module {
  explicit Net(std::int64_t hidden = 11) {
    first = register_module("first", torch::nn::Linear(kFeatures, hidden));
    second = register_module("second", torch::nn::Linear(hidden, 3));
    extra = register_parameter("extra", torch::ones({3}));
    seen = register_buffer("seen", torch::zeros({1}));
  }
  at::Tensor forward(const at::Tensor& x, bool use_extra) {
    at::Tensor y = second(torch::tanh(first(x)));
    return use_extra ? y * extra : y;
  }
  torch::nn::Linear first{nullptr}, second{nullptr};
  torch::Tensor extra, seen;
};

/// Numbers that depend on nothing but their place.
inline at::Tensor numbers(at::IntArrayRef sizes, double phase) {
  std::int64_t count = 1;
  for (std::int64_t size : sizes) count *= size;
  return (at::arange(count, at::kDouble) * 0.7 + phase).sin().to(at::kFloat).view(sizes);
}

inline void fill(torch::nn::Module& net, double phase) {
  const at::NoGradGuard no_grad;
  for (const NamedTensor& parameter : treadle::named_parameters(net)) {
    parameter.tensor.copy_(numbers(parameter.tensor.sizes(), phase));
    phase += 1;
  }
}

inline std::shared_ptr<Model> model_of(const std::shared_ptr<Net>& net) {
  return make_model(net, [](auto& module, const Batch& batch) -> LossDict {
    const bool use_extra = batch.fields().find("no_extra") == nullptr;
    const at::Tensor error = module->forward(batch.tensor("x"), use_extra) - batch.tensor("y");
    return {{"square", error.square().mean()}, {"tiny", error.mean() * 0.1}};
  });
}

/// The samples of `ranks` ranks from the first one on.
inline Batch shard(int first, int ranks = 1, bool use_extra = true) {
  const at::Tensor x = numbers({100 * kShard, kFeatures}, 0.3).slice(0, first * kShard, (first + ranks) * kShard);
  const at::Tensor y = numbers({100 * kShard, 3}, 2.1).slice(0, first * kShard, (first + ranks) * kShard);
  Dict fields{{"x", x}, {"y", y}};
  if (!use_extra) fields.set("no_extra", at::zeros({1}));
  return Batch(fields);
}

inline at::Tensor sum(const LossDict& losses) {
  at::Tensor total = losses.front().second;
  for (std::size_t i = 1; i < losses.size(); ++i) total = total + losses[i].second;
  return total;
}

/// Name → gradient after one backward pass of a process alone.
inline Dict gradients_alone(const Batch& batch) {
  auto net = std::make_shared<Net>();
  fill(*net, 1);
  sum(model_of(net)->losses(batch)).backward();
  Dict gradients;
  for (const NamedTensor& parameter : treadle::named_parameters(*net)) gradients.set(parameter.name, parameter.tensor.grad());
  return gradients;
}

inline std::shared_ptr<Group> borrow(Group& group) { return {std::shared_ptr<Group>(), &group}; }

inline std::unique_ptr<BatchSource> source_of(std::function<Batch(int)> batch) {
  auto next = [i = 0, batch = std::move(batch)]() mutable -> std::optional<Batch> { return batch(i++); };
  return make_batch_source(std::function<std::optional<Batch>()>(next));
}

}  // namespace treadle

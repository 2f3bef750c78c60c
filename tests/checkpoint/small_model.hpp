#pragma once

#include <treadle/base/errors.hpp>
#include <treadle/base/stateful.hpp>

#include <ATen/ops/full.h>
#include <torch/nn/module.h>

#include <string>
#include <utility>
#include <vector>

namespace treadle {

/// A module of two parameters and a buffer, all filled with one number.
struct SmallModel : torch::nn::Module {
  explicit SmallModel(double value = 0) {
    register_parameter("weight", at::full({3, 2}, value));
    register_parameter("bias", at::full({3}, value));
    register_buffer("mean", at::full({2}, value));
  }
  void fill(double value) {
    at::NoGradGuard no_grad;
    for (auto& tensor : parameters()) tensor.fill_(value);
    for (auto& tensor : buffers()) tensor.fill_(value);
  }
  /// The number that fills everything; fails the caller's expectation when tensors disagree.
  double value() const {
    double first = named_parameters()["bias"][0].item<double>();
    for (const auto& tensor : parameters()) {
      if (!tensor.eq(first).all().item<bool>()) return -1;
    }
    for (const auto& tensor : buffers()) {
      if (!tensor.eq(first).all().item<bool>()) return -1;
    }
    return first;
  }
};

/// A Stateful of one number, which refuses negative ones.
struct Counter final : Stateful {
  std::int64_t count = 0;
  int loads = 0;

  Dict state_dict() const override { return {{"count", count}}; }
  void check_state_dict(const Dict& state) const override {
    if (state.at("count").as_int() < 0) throw FormatError("a negative count");
  }
  void load_state_dict(const Dict& state) override {
    count = state.at("count").as_int();
    ++loads;
  }
};

}  // namespace treadle

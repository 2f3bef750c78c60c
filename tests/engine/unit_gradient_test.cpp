#include <engine/unit_gradient.hpp>

#include <ATen/ops/equal.h>
#include <ATen/ops/ones.h>
#include <ATen/ops/randn.h>
#include <gtest/gtest.h>

namespace treadle {
namespace {

at::Tensor parameter(at::ScalarType type = at::kFloat) { return at::randn({4}, type).set_requires_grad(true); }

/// The gradient of a sum is made of ones.
void expect_ones(const at::Tensor& gradient, double factor = 1) {
  EXPECT_TRUE(at::equal(gradient, at::ones({4}, gradient.options()) * factor)) << gradient;
}

TEST(UnitGradient, DifferentiatesLossesOfEveryTypeAndShape) {
  UnitGradient unit;
  for (const at::ScalarType type : {at::kFloat, at::kDouble, at::kFloat, at::kBFloat16}) {
    const at::Tensor scalar = parameter(type), one_element = parameter(type);
    unit.backward(scalar.sum());
    unit.backward(one_element.sum().reshape({1, 1}));
    EXPECT_EQ(scalar.grad().scalar_type(), type);
    expect_ones(scalar.grad());
    expect_ones(one_element.grad());
  }
}

TEST(UnitGradient, RefusesWhatLibTorchRefuses) {
  UnitGradient unit;
  const at::Tensor several = parameter();
  EXPECT_THROW(unit.backward(several * 2), c10::Error);
  EXPECT_THROW(unit.backward(at::ones({})), c10::Error);
}

TEST(UnitGradient, StaysAOneWhateverIsDoneToIt) {
  UnitGradient unit;
  const at::Tensor first = parameter(), second = parameter();
  const at::Tensor loss = first.sum();
  loss.register_hook([](const at::Tensor& gradient) { gradient.mul_(3); });
  unit.backward(loss);
  unit.backward(second.sum());
  expect_ones(second.grad());
}

TEST(UnitGradient, IsNobodysGradient) {
  UnitGradient unit;
  const at::Tensor weight = at::ones({}).set_requires_grad(true), other = parameter();
  // The gradient of `weight` is the one that came in; whoever changes it must not change the next.
  unit.backward(weight + 0);
  weight.mutable_grad().mul_(5);
  unit.backward(other.sum());
  expect_ones(other.grad());
  EXPECT_EQ(weight.grad().item<float>(), 5);
}

}  // namespace
}  // namespace treadle

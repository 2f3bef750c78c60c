#include <treadle/base/errors.hpp>
#include <treadle/solver/clipping.hpp>
#include <treadle/solver/with_gradient_clipping.hpp>

#include <ATen/CPUGeneratorImpl.h>
#include <ATen/Parallel.h>
#include <ATen/ops/_efficientzerotensor.h>
#include <ATen/ops/_neg_view.h>
#include <ATen/ops/full.h>
#include <ATen/ops/full_like.h>
#include <ATen/ops/linalg_vector_norm.h>
#include <ATen/ops/ones.h>
#include <ATen/ops/randn.h>
#include <ATen/ops/stack.h>
#include <gtest/gtest.h>
#include <torch/optim/sgd.h>

#include <cmath>
#include <limits>
#include <vector>

namespace treadle {
namespace {

using Tensors = std::vector<at::Tensor>;

Tensors with_grads(const Tensors& grads) {
  Tensors params;
  for (const at::Tensor& grad : grads) {
    params.push_back(at::ones(grad.sizes(), grad.options()).set_requires_grad(true));
    params.back().mutable_grad() = grad;
  }
  return params;
}

at::Tensor random(std::vector<std::int64_t> shape, std::uint64_t seed, at::ScalarType type = at::kFloat) {
  return at::randn(shape, at::make_generator<at::CPUGeneratorImpl>(seed), at::TensorOptions(at::kDouble)).to(type);
}

TEST(TotalNorm, HasTheBitsOfAten) {
  for (double p : {2.0, 1.0, 3.0, 0.5, 0.0, std::numeric_limits<double>::infinity()}) {
    Tensors grads;
    Tensors norms;
    for (std::int64_t size = 0; size < 100; ++size) {
      if (size == 0 && std::isinf(p)) continue;
      grads.push_back(random({size}, static_cast<std::uint64_t>(size)));
    }
    grads.push_back(random({}, 1));
    grads.push_back(random({70, 33}, 2).t());
    grads.push_back(random({2, 3, 4, 5}, 3).contiguous(at::MemoryFormat::ChannelsLast));
    grads.push_back(random({40, 2}, 3).select(1, 0));
    grads.push_back(random({100000}, 4));
    grads.push_back(at::full({3}, 1e30F));
    for (const at::Tensor& grad : grads) {
      norms.push_back(at::linalg_vector_norm(grad, p));
      // The norm of one norm: for p = 0 that counts.
      EXPECT_TRUE(total_norm({grad}, p).equal(at::linalg_vector_norm(norms.back().view({1}), p))) << p << " " << grad.sizes();
    }
    grads.pop_back();
    norms.pop_back();
    EXPECT_TRUE(total_norm(grads, p).equal(at::linalg_vector_norm(at::stack(norms), p))) << p;
  }
}

TEST(TotalNorm, AndClippingTakeGradientsThatDoNotLieInMemoryAsTheyAre) {
  const Tensors grads = {at::_neg_view(at::full({4}, -1.0)), at::full({5}, 1.0), at::_efficientzerotensor({3}, at::kFloat)};
  EXPECT_EQ(total_norm(grads).item<double>(), 3);
  EXPECT_EQ(total_norm({grads[1], grads[2], at::full({4}, 1.0)}).item<double>(), 3);
  Tensors ours(grads.begin(), grads.begin() + 2);
  clip_grads_with_norm(ours, 1.5, total_norm(grads));
  for (const at::Tensor& grad : ours) EXPECT_TRUE(grad.allclose(at::full_like(grad, 0.5)));
}

TEST(TotalNorm, PassesOverMissingGradients) {
  EXPECT_EQ(total_norm({at::Tensor(), at::full({4}, 1.5), at::Tensor()}).item<double>(), 3);
  EXPECT_EQ(total_norm({}).item<double>(), 0);
  EXPECT_EQ(total_norm({at::Tensor()}).item<double>(), 0);
  EXPECT_DOUBLE_EQ(total_norm({at::full({4}, 1.5, at::kDouble)}).item<double>(), 3);
}

TEST(TotalGradNorm, IsThatOfTheGradients) {
  Tensors params = with_grads({at::full({4}, 2.0), at::full({9}, 1.0)});
  params.push_back(at::ones({3}).set_requires_grad(true));  // without a gradient
  EXPECT_EQ(total_grad_norm(params).item<double>(), 5);
  EXPECT_EQ(total_grad_norm(params, 1).item<double>(), 17);
  EXPECT_EQ(total_grad_norm({params.back()}).item<double>(), 0);
}

TEST(MaybeAddGradientClipping, AddsItWhereItIsAskedFor) {
  for (const bool enabled : {false, true}) {
    Tensors params = with_grads({at::full({4}, 2.0)});
    const GradientClippingOptions clip{.enabled = enabled, .type = ClipType::full_model, .clip_value = 1};
    const auto optimizer = maybe_add_gradient_clipping<torch::optim::SGD>(clip, params, torch::optim::SGDOptions(1.0));
    EXPECT_EQ(dynamic_cast<ClippingOptimizer*>(optimizer.get()) != nullptr, enabled);
    const double before = params[0][0].item<double>();
    optimizer->step();
    EXPECT_NEAR(before - params[0][0].item<double>(), enabled ? 0.5 : 2, 1e-6);
  }
  EXPECT_THROW(maybe_add_gradient_clipping<torch::optim::SGD>({.enabled = true, .clip_value = -1}, Tensors{at::ones({1})},
                                                              torch::optim::SGDOptions(1.0)),
               ConfigError);
}

TEST(GradientClipper, ByValue) {
  Tensors params = with_grads({at::full({3}, 2.0), at::full({2}, -0.25)});
  params.push_back(at::ones({1}).set_requires_grad(true));  // without a gradient
  auto norm = create_gradient_clipper({.type = ClipType::value, .clip_value = 0.5})(params);
  EXPECT_FALSE(norm);
  EXPECT_TRUE(params[0].grad().eq(0.5).all().item<bool>());
  EXPECT_TRUE(params[1].grad().eq(-0.25).all().item<bool>());
}

TEST(GradientClipper, EachParameterByItsOwnNorm) {
  Tensors params = with_grads({at::full({4}, 2.0), at::full({4}, 0.25)});
  auto norm = create_gradient_clipper({.type = ClipType::norm, .clip_value = 1})(params);
  EXPECT_EQ(norm->item<double>(), 4);
  EXPECT_NEAR(params[0].grad()[0].item<double>(), 0.5, 1e-6);
  EXPECT_EQ(params[1].grad()[0].item<double>(), 0.25);
}

TEST(GradientClipper, AllByTheTotalNorm) {
  Tensors params = with_grads({at::full({4}, 2.0), at::full({9}, 1.0)});
  auto norm = create_gradient_clipper({.type = ClipType::full_model, .clip_value = 1})(params);
  EXPECT_EQ(norm->item<double>(), 5);
  EXPECT_NEAR(params[0].grad()[0].item<double>(), 0.4, 1e-6);
  EXPECT_NEAR(params[1].grad()[0].item<double>(), 0.2, 1e-6);
  params = with_grads({at::full({4}, 2.0), at::full({9}, 1.0)});
  norm = create_gradient_clipper({.type = ClipType::full_model, .clip_value = 1, .norm_type = 1})(params);
  EXPECT_EQ(norm->item<double>(), 17);
}

TEST(GradientClipper, NoGradientsAtAll) {
  for (ClipType type : {ClipType::value, ClipType::norm, ClipType::full_model}) {
    EXPECT_NO_THROW(create_gradient_clipper({.type = type})({at::ones({1}).set_requires_grad(true)}));
  }
}

TEST(GradientClipper, ANonFiniteNormIsAnErrorOrLeavesTheGradients) {
  for (ClipType type : {ClipType::norm, ClipType::full_model}) {
    Tensors params = with_grads({at::full({2}, 2.0), at::full({2}, INFINITY)});
    EXPECT_THROW(create_gradient_clipper({.type = type, .clip_value = 0.1, .non_finite = NonFiniteNorm::error})(params), Error);
    EXPECT_TRUE(params[0].grad().eq(2).all().item<bool>());
    auto norm = create_gradient_clipper({.type = type, .clip_value = 0.1, .non_finite = NonFiniteNorm::skip})(params);
    EXPECT_TRUE(std::isinf(norm->item<double>()));
    EXPECT_TRUE(params[0].grad().eq(2).all().item<bool>());
    create_gradient_clipper({.type = type, .clip_value = 0.1})(params);
    EXPECT_FALSE(params[0].grad().eq(2).any().item<bool>());
  }
}

TEST(GradientClipper, RefusesBadOptions) {
  EXPECT_THROW(create_gradient_clipper({.clip_value = -1}), ConfigError);
  EXPECT_THROW(create_gradient_clipper({.clip_value = NAN}), ConfigError);
  EXPECT_THROW(create_gradient_clipper({.norm_type = NAN}), ConfigError);
  EXPECT_EQ(clip_type_from_string("value"), ClipType::value);
  EXPECT_EQ(clip_type_from_string("norm"), ClipType::norm);
  EXPECT_EQ(clip_type_from_string("full_model"), ClipType::full_model);
  EXPECT_THROW(clip_type_from_string("nonsense"), ConfigError);
}

}  // namespace
}  // namespace treadle

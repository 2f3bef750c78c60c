#include <treadle/base/errors.hpp>
#include <treadle/solver/adamw.hpp>
#include <treadle/solver/optimizer_state.hpp>
#include <treadle/solver/sgd.hpp>

#include <ATen/CPUGeneratorImpl.h>
#include <ATen/Parallel.h>
#include <ATen/Version.h>
#include <ATen/ops/_neg_view.h>
#include <ATen/ops/from_blob.h>
#include <ATen/ops/full.h>
#include <ATen/ops/maximum.h>
#include <ATen/ops/ones.h>
#include <ATen/ops/ones_like.h>
#include <ATen/ops/randn.h>
#include <ATen/ops/zeros_like.h>
#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include <cmath>
#include <functional>

namespace treadle {
namespace {

using Tensors = std::vector<at::Tensor>;

bool plain_kernels_round_differently() { return at::get_cpu_capability() == "DEFAULT"; }

Tensors random_tensors(std::vector<std::vector<std::int64_t>> shapes, std::uint64_t seed, at::ScalarType type = at::kFloat) {
  at::Generator generator = at::make_generator<at::CPUGeneratorImpl>(seed);
  Tensors tensors;
  for (const auto& shape : shapes) tensors.push_back(at::randn(shape, generator, at::TensorOptions(at::kDouble)).to(type));
  return tensors;
}

using Layout = std::function<at::Tensor(const at::Tensor&)>;
at::Tensor as_is(const at::Tensor& tensor) { return tensor.clone(); }

Tensors parameters(const Tensors& values, const Layout& layout = as_is) {
  Tensors params;
  for (const at::Tensor& value : values) params.push_back(layout(value).detach().set_requires_grad(true));
  return params;
}

void set_grads(const Tensors& params, std::uint64_t seed, const Layout& layout = as_is) {
  for (std::size_t i = 0; i < params.size(); ++i) {
    at::Tensor grad = random_tensors({params[i].sizes().vec()}, seed * 100 + i)[0];
    params[i].mutable_grad() = layout(grad.to(params[i].scalar_type()));
  }
}

void expect_same(const Tensors& a, const Tensors& b) {
  ASSERT_EQ(a.size(), b.size());
  for (std::size_t i = 0; i < a.size(); ++i) EXPECT_TRUE(a[i].equal(b[i])) << "tensor " << i;
}

const std::vector<std::vector<std::int64_t>> kShapes = {{1}, {7}, {8}, {9}, {3, 5, 2, 2}, {64, 33}, {}};

// LibTorch's own SGD calls the same ATen operations as Python's default.
void expect_sgd_equals_torch(const SgdOptions& options, const Layout& param_layout, const Layout& grad_layout,
                             at::ScalarType type = at::kFloat) {
  Tensors values = random_tensors(kShapes, 1, type);
  Tensors mine = parameters(values, param_layout);
  Tensors theirs = parameters(values, param_layout);
  Sgd sgd(mine, options);
  torch::optim::SGD reference(theirs, torch::optim::SGDOptions(options.lr)
                                          .momentum(options.momentum)
                                          .dampening(options.dampening)
                                          .weight_decay(options.weight_decay)
                                          .nesterov(options.nesterov));
  for (std::uint64_t step = 0; step < 4; ++step) {
    set_grads(mine, step, grad_layout);
    set_grads(theirs, step, grad_layout);
    sgd.step();
    reference.step();
    expect_same(mine, theirs);
  }
}

at::Tensor channels_last(const at::Tensor& tensor) {
  return tensor.dim() == 4 ? tensor.contiguous(at::MemoryFormat::ChannelsLast) : tensor.clone();
}
/// Every second element of a larger array.
at::Tensor with_gaps(const at::Tensor& tensor) {
  if (tensor.dim() == 0) return tensor.clone();
  at::Tensor wide = at::stack({tensor, at::full_like(tensor, 1e30)}, -1);
  return wide.select(-1, 0);
}

/// The same numbers, of which memory holds the opposite.
at::Tensor seen_negated(const at::Tensor& tensor) { return at::_neg_view(tensor.neg()); }

const std::vector<SgdOptions> kSgdOptions = {
    {.lr = 0.1},
    {.lr = 0.1, .weight_decay = 0.01},
    {.lr = 0.05, .momentum = 0.9},
    {.lr = 0.05, .momentum = 0.9, .weight_decay = 1e-4, .nesterov = true},
    {.lr = 0.05, .momentum = 0.9, .dampening = 0.3, .weight_decay = 1e-4},
};

TEST(Sgd, EqualsAtensOperations) {
  if (plain_kernels_round_differently()) GTEST_SKIP() << "ATen's plain kernels have no fma";
  for (const SgdOptions& options : kSgdOptions) {
    expect_sgd_equals_torch(options, as_is, as_is);
    expect_sgd_equals_torch(options, as_is, as_is, at::kDouble);
  }
}

TEST(Sgd, TakesTensorsOfAnyLayout) {
  if (plain_kernels_round_differently()) GTEST_SKIP() << "ATen's plain kernels have no fma";
  for (bool fused : {false, true}) {
    SgdOptions options{.lr = 0.05, .momentum = 0.9, .weight_decay = 1e-4, .nesterov = true, .fused = fused};
    for (const auto& [param, grad] : std::vector<std::pair<Layout, Layout>>{{channels_last, channels_last},
                                                                            {channels_last, as_is},
                                                                            {as_is, channels_last},
                                                                            {with_gaps, as_is},
                                                                            {as_is, with_gaps},
                                                                            {seen_negated, as_is},
                                                                            {as_is, seen_negated}}) {
      // ATen's fused kernel treats the last few elements of a tensor differently, so only whole vectors compare equal.
      if (fused) {
        Tensors values = random_tensors({{2, 4, 4, 4}}, 1);
        Tensors mine = parameters(values, param), theirs = parameters(values, param);
        Sgd sgd(mine, options);
        SgdOptions plain = options;
        plain.fused = false;
        Sgd reference(theirs, plain);
        for (std::uint64_t step = 0; step < 3; ++step) {
          set_grads(mine, step, grad);
          set_grads(theirs, step, grad);
          sgd.step();
          reference.step();
        }
        expect_same(mine, theirs);
      } else {
        expect_sgd_equals_torch(options, param, grad);
      }
    }
  }
}

TEST(Sgd, ThePlainPathKnowsEveryOption) {
  for (const SgdOptions& options : kSgdOptions) expect_sgd_equals_torch(options, with_gaps, as_is);
}

TEST(Sgd, LeavesMemoryBetweenStridedElementsAlone) {
  at::Tensor wide = at::ones({4, 2});
  at::Tensor param = wide.select(1, 0).detach().set_requires_grad(true);
  param.mutable_grad() = at::ones({4});
  Sgd({param}, {.lr = 0.5}).step();
  EXPECT_TRUE(wide.select(1, 0).eq(0.5).all().item<bool>());
  EXPECT_TRUE(wide.select(1, 1).eq(1).all().item<bool>());
}

TEST(Sgd, HalfPrecisionTakesThePlainPath) {
  Tensors params = parameters({at::ones({5}, at::kBFloat16)});
  params[0].mutable_grad() = at::ones({5}, at::kBFloat16);
  Sgd sgd(params, {.lr = 0.5, .momentum = 0.9});
  sgd.step();
  EXPECT_TRUE(params[0].detach().eq(0.5).all().item<bool>());
}

TEST(Sgd, MaximizeGoesUpTheGradient) {
  for (bool fused : {false, true}) {
    Tensors up = parameters(random_tensors(kShapes, 3)), down = parameters(random_tensors(kShapes, 3));
    Sgd ascent(up, {.lr = 0.1, .momentum = 0.9, .maximize = true, .fused = fused});
    Sgd descent(down, {.lr = 0.1, .momentum = 0.9, .fused = fused});
    for (std::uint64_t step = 0; step < 3; ++step) {
      set_grads(up, step);
      set_grads(down, step, [](const at::Tensor& tensor) { return -tensor; });
      ascent.step();
      descent.step();
    }
    expect_same(up, down);
  }
}

TEST(Sgd, DoesNotDependOnTheNumberOfThreads) {
  Tensors values = random_tensors({{100, 1000}, {3}, {70001}}, 5);
  std::vector<Tensors> results;
  for (int threads : {1, 3}) {
    at::set_num_threads(threads);
    Tensors params = parameters(values);
    Sgd sgd(params, {.lr = 0.1, .momentum = 0.9, .weight_decay = 0.1});
    AdamW adamw(params, {.weight_decay = 0.1});
    for (std::uint64_t step = 0; step < 3; ++step) {
      set_grads(params, step);
      sgd.step();
      adamw.step();
    }
    results.push_back(params);
  }
  at::set_num_threads(1);
  expect_same(results[0], results[1]);
}

TEST(Sgd, PassesOverParametersWithoutGradientAndStartsTheirBufferLater) {
  for (bool fused : {false, true}) {
    Tensors params = parameters({at::ones({8}), at::ones({8})});
    Sgd sgd(params, {.lr = 1, .momentum = 0.5, .dampening = 0.5, .fused = fused});
    params[0].mutable_grad() = at::ones({8});
    sgd.step();
    EXPECT_TRUE(params[1].detach().eq(1).all().item<bool>());
    params[1].mutable_grad() = at::ones({8});
    sgd.step();
    // The first step of a buffer takes the gradient without dampening.
    EXPECT_TRUE(params[1].detach().eq(0).all().item<bool>()) << fused;
    EXPECT_TRUE(params[0].detach().eq(-1).all().item<bool>()) << fused;  // 1 - 1 - (0.5 · 1 + 0.5 · 1)
  }
}

TEST(Sgd, CallsTheClosureWithGradientsEnabled) {
  Tensors params = parameters({at::ones({3})});
  Sgd sgd(params, {.lr = 0.5});
  at::NoGradGuard no_grad;
  at::Tensor loss = sgd.step([&] {
    at::Tensor sum = params[0].sum();
    sum.backward();
    return sum;
  });
  EXPECT_EQ(loss.item<double>(), 3);
  EXPECT_TRUE(params[0].detach().eq(0.5).all().item<bool>());
}

TEST(Sgd, TellsAutogradThatParametersChanged) {
  Tensors params = parameters({at::ones({3})});
  at::Tensor loss = params[0].pow(2).sum();
  params[0].mutable_grad() = at::ones({3});
  Sgd(params, {.lr = 0.5}).step();
  EXPECT_ANY_THROW(loss.backward());
}

TEST(Sgd, AnExplicitOptionEqualToTheBuiltInDefaultCounts) {
  // LibTorch alone would give the group the optimizer's decay instead of its own 0.
  Sgd sgd({{parameters({at::ones({2})}), {"w"}, {{"weight_decay", 0.0}}}}, {.lr = 1, .weight_decay = 0.5});
  EXPECT_EQ(static_cast<torch::optim::SGDOptions&>(sgd.param_groups()[0].options()).weight_decay(), 0);
}

std::string refusal(const std::function<void()>& construct) {
  try {
    construct();
  } catch (const ConfigError& error) {
    return error.what();
  }
  return "";
}

TEST(Sgd, RefusesBadOptionsAndGroups) {
  auto params = [] { return parameters({at::ones({2})}); };
  auto names = [](const std::string& text, const std::string& part) { return text.find(part) != std::string::npos; };
  EXPECT_TRUE(names(refusal([&] { Sgd(params(), {.lr = -0.1}); }), "SgdOptions.lr"));
  EXPECT_TRUE(names(refusal([&] { Sgd(params(), {.lr = NAN}); }), "SgdOptions.lr"));
  EXPECT_TRUE(names(refusal([&] { Sgd(params(), {.momentum = 1.1}); }), "SgdOptions.momentum"));
  EXPECT_TRUE(names(refusal([&] { Sgd(params(), {.dampening = -1}); }), "SgdOptions.dampening"));
  EXPECT_TRUE(names(refusal([&] { Sgd(params(), {.weight_decay = -1}); }), "SgdOptions.weight_decay"));
  EXPECT_TRUE(names(refusal([&] { Sgd(params(), {.nesterov = true}); }), "momentum"));
  EXPECT_TRUE(names(refusal([&] { Sgd(params(), {.momentum = 0.9, .dampening = 0.1, .nesterov = true}); }), "dampening"));
  EXPECT_TRUE(names(refusal([&] { Sgd({{params(), {"conv.weight"}, {{"lr", -1.0}}}}, {}); }), "conv.weight"));
  EXPECT_TRUE(names(refusal([&] { Sgd({{params(), {}, {{"momentun", 0.9}}}}, {}); }), "did you mean \"momentum\""));
  EXPECT_TRUE(names(refusal([&] { Sgd({{params(), {}, {{"lr", "fast"}}}}, {}); }), "lr"));
  EXPECT_TRUE(names(refusal([&] { Sgd(std::vector<ParamGroup>{}, {}); }), "no parameters"));
}

Tensors adam_reference(Tensors params, int steps, const AdamOptions& options, bool decoupled) {
  Tensors m, v, max_v;
  for (const at::Tensor& param : params) {
    m.push_back(at::zeros_like(param));
    v.push_back(at::zeros_like(param));
    max_v.push_back(at::zeros_like(param));
  }
  at::NoGradGuard no_grad;
  for (int step = 1; step <= steps; ++step) {
    set_grads(params, static_cast<std::uint64_t>(step));
    for (std::size_t i = 0; i < params.size(); ++i) {
      at::Tensor grad = params[i].grad();
      if (decoupled) params[i].mul_(1 - options.lr * options.weight_decay);
      if (!decoupled) grad = grad.add(params[i], options.weight_decay);
      m[i].lerp_(grad, 1 - options.beta1);
      v[i].mul_(options.beta2).addcmul_(grad, grad, 1 - options.beta2);
      max_v[i] = at::maximum(max_v[i], v[i]);
      at::Tensor root = (options.amsgrad ? max_v[i] : v[i]).sqrt();
      at::Tensor denominator = root.div_(std::sqrt(1 - std::pow(options.beta2, step))).add_(options.eps);
      params[i].addcdiv_(m[i], denominator, -(options.lr / (1 - std::pow(options.beta1, step))));
    }
  }
  return params;
}

template <class Optimizer>
void expect_adam_equals_reference(const AdamOptions& options, bool decoupled, at::ScalarType type, const Layout& layout = as_is,
                                  const Layout& grad_layout = as_is) {
  Tensors values = random_tensors(kShapes, 1, type);
  Tensors mine = parameters(values, layout);
  Optimizer optimizer(mine, options);
  for (std::uint64_t step = 1; step <= 5; ++step) {
    set_grads(mine, step, grad_layout);
    optimizer.step();
  }
  expect_same(mine, adam_reference(parameters(values), 5, options, decoupled));
}

TEST(AdamW, EqualsAtensOperations) {
  if (plain_kernels_round_differently()) GTEST_SKIP() << "ATen's plain kernels have no fma";
  for (at::ScalarType type : {at::kFloat, at::kDouble}) {
    for (double beta1 : {0.9, 0.3}) {
      for (bool amsgrad : {false, true}) {
        for (double decay : {0.0, 0.1}) {
          AdamOptions options{.lr = 0.01, .beta1 = beta1, .beta2 = 0.95, .eps = 1e-6, .weight_decay = decay, .amsgrad = amsgrad};
          expect_adam_equals_reference<AdamW>(options, true, type);
          expect_adam_equals_reference<Adam>(options, false, type);
        }
      }
    }
  }
  expect_adam_equals_reference<AdamW>({.lr = 0.01, .weight_decay = 0.1, .amsgrad = true}, true, at::kFloat, channels_last);
  expect_adam_equals_reference<Adam>({.lr = 0.01, .weight_decay = 0.1}, false, at::kFloat, with_gaps);
  expect_adam_equals_reference<AdamW>({.lr = 0.01}, true, at::kFloat, seen_negated, as_is);
  expect_adam_equals_reference<AdamW>({.lr = 0.01}, true, at::kFloat, as_is, seen_negated);
}

template <class Optimizer>
void expect_fused_is_close(const AdamOptions& options, const Layout& grad_layout = as_is) {
  Tensors plain = parameters(random_tensors(kShapes, 1)), fused = parameters(random_tensors(kShapes, 1));
  Optimizer a(plain, options);
  AdamOptions with_fused = options;
  with_fused.fused = true;
  Optimizer b(fused, with_fused);
  for (std::uint64_t step = 1; step <= 5; ++step) {
    set_grads(plain, step);
    set_grads(fused, step, grad_layout);
    a.step();
    b.step();
  }
  for (std::size_t i = 0; i < plain.size(); ++i) EXPECT_TRUE(plain[i].allclose(fused[i], 1e-5, 1e-6)) << i;
}

TEST(AdamW, FusedIsTheSameUpToRounding) {
  for (bool amsgrad : {false, true}) {
    expect_fused_is_close<AdamW>({.lr = 0.01, .weight_decay = 0.1, .amsgrad = amsgrad});
    expect_fused_is_close<AdamW>({.lr = 0.01, .amsgrad = amsgrad}, seen_negated);
    expect_fused_is_close<Adam>({.lr = 0.01, .weight_decay = 0.1, .amsgrad = amsgrad, .maximize = true});
  }
}

TEST(AdamW, MaximizeGoesUpTheGradient) {
  Tensors up = parameters(random_tensors(kShapes, 3)), down = parameters(random_tensors(kShapes, 3));
  AdamW ascent(up, {.lr = 0.1, .maximize = true});
  AdamW descent(down, {.lr = 0.1});
  set_grads(up, 1);
  set_grads(down, 1, [](const at::Tensor& tensor) { return -tensor; });
  ascent.step();
  descent.step();
  expect_same(up, down);
}

TEST(AdamW, RefusesBadOptionsAndSparseGradients) {
  auto params = parameters({at::ones({2, 2})});
  EXPECT_NE(refusal([&] { AdamW(params, {.beta1 = 1}); }).find("AdamOptions.beta1"), std::string::npos);
  EXPECT_NE(refusal([&] { AdamW(params, {.beta2 = -0.1}); }).find("AdamOptions.beta2"), std::string::npos);
  EXPECT_NE(refusal([&] { AdamW(params, {.eps = -1}); }).find("AdamOptions.eps"), std::string::npos);
  EXPECT_NE(refusal([&] { Adam(params, {.lr = INFINITY}); }).find("AdamOptions.lr"), std::string::npos);
  EXPECT_NE(refusal([&] { Adam(params, {.weight_decay = -1}); }).find("AdamOptions.weight_decay"), std::string::npos);
  EXPECT_NE(refusal([&] { Adam({{params, {"w"}, {{"betas", Tuple{0.9, 2.0}}}}}, {}); }).find("(w)"), std::string::npos);
  params[0].mutable_grad() = at::ones({2, 2}).to_sparse();
  EXPECT_THROW(AdamW(params, {}).step(), Error);
}

RC_GTEST_PROP(SgdProperty, EqualsAtensOperationsForAnySizes, ()) {
  if (plain_kernels_round_differently()) return;
  auto sizes = *rc::gen::container<std::vector<std::int64_t>>(rc::gen::inRange<std::int64_t>(0, 70));
  RC_PRE(!sizes.empty());
  Tensors values;
  for (std::size_t i = 0; i < sizes.size(); ++i) values.push_back(random_tensors({{sizes[i]}}, i)[0]);
  Tensors mine = parameters(values), theirs = parameters(values);
  Sgd sgd(mine, {.lr = 0.1, .momentum = 0.9, .weight_decay = 0.01});
  torch::optim::SGD reference(theirs, torch::optim::SGDOptions(0.1).momentum(0.9).weight_decay(0.01));
  for (std::uint64_t step = 0; step < 2; ++step) {
    set_grads(mine, step);
    set_grads(theirs, step);
    sgd.step();
    reference.step();
  }
  for (std::size_t i = 0; i < mine.size(); ++i) RC_ASSERT(mine[i].equal(theirs[i]));
}

}  // namespace
}  // namespace treadle

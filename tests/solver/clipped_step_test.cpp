// Optimizers that clip in their own step, against clipping and stepping one after the other.

#include <treadle/base/errors.hpp>
#include <treadle/solver/adamw.hpp>
#include <treadle/solver/clipping.hpp>
#include <treadle/solver/optimizer_state.hpp>
#include <treadle/solver/sgd.hpp>
#include <treadle/solver/with_gradient_clipping.hpp>

#include <ATen/CPUGeneratorImpl.h>
#include <ATen/Parallel.h>
#include <ATen/ops/full.h>
#include <ATen/ops/ones.h>
#include <ATen/ops/randn.h>
#include <gtest/gtest.h>

#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <fstream>
#include <limits>
#include <memory>
#include <optional>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

namespace treadle {
namespace {

using Tensors = std::vector<at::Tensor>;
using Optimizer = torch::optim::Optimizer;

at::Tensor random(std::vector<std::int64_t> shape, std::uint64_t seed, at::ScalarType type = at::kFloat) {
  return at::randn(shape, at::make_generator<at::CPUGeneratorImpl>(seed), at::TensorOptions(at::kDouble)).to(type);
}

bool same_bits(const at::Tensor& a, const at::Tensor& b) {
  const at::Tensor x = a.detach().contiguous(), y = b.detach().contiguous();
  return x.sizes() == y.sizes() && x.dtype() == y.dtype() && std::memcmp(x.const_data_ptr(), y.const_data_ptr(), x.nbytes()) == 0;
}

/// Two groups. With `mixed`, some parameters are not for the kernels: another dtype, or a gradient in another memory order.
struct Net {
  std::vector<ParamGroup> groups{{.params = {}, .names = {}, .options = {}},
                                 {.params = {}, .names = {}, .options = {{"lr", 0.03}, {"weight_decay", 0.2}}}};
  bool mixed;

  explicit Net(bool mixed_kinds) : mixed(mixed_kinds) {
    std::uint64_t seed = 0;
    for (const auto& shape : std::vector<std::vector<std::int64_t>>{{3}, {70, 33}, {2, 3, 4, 5}, {9}, {1}, {1000}, {40}}) {
      const at::ScalarType type = mixed && seed == 3 ? at::kDouble : at::kFloat;
      groups[seed % 2].params.push_back(random(shape, seed, type).set_requires_grad(true));
      ++seed;
    }
  }
  Tensors params() const {
    Tensors all = groups[0].params;
    all.insert(all.end(), groups[1].params.begin(), groups[1].params.end());
    return all;
  }
  void give_grads(std::uint64_t step) const {
    std::uint64_t seed = 100 * (step + 1);
    for (const at::Tensor& param : params()) {
      at::Tensor grad = random(param.sizes().vec(), ++seed, param.scalar_type());
      if (mixed && grad.dim() == 4) grad = grad.contiguous(at::MemoryFormat::ChannelsLast);
      // One parameter gets its first gradient later.
      param.mutable_grad() = step == 0 && seed % 100 == 2 ? at::Tensor() : grad;
    }
  }
};

template <class Base, class Options>
void expect_equals_clipping_first(const Options& options, bool mixed, double max_norm, double norm_type, NonFiniteNorm policy) {
  const Net mine(mixed), theirs(mixed);
  const GradientClippingOptions clip{
      .enabled = true, .type = ClipType::full_model, .clip_value = max_norm, .norm_type = norm_type, .non_finite = policy};
  WithGradientClipping<Base> clipping(clip, mine.groups, options);
  Base plain(theirs.groups, options);
  for (std::uint64_t step = 0; step < 3; ++step) {
    mine.give_grads(step), theirs.give_grads(step);
    clipping.step();
    const at::Tensor norm = total_grad_norm(theirs.params(), norm_type);
    Tensors grads;
    for (const at::Tensor& param : theirs.params()) grads.push_back(param.grad());
    clip_grads_with_norm(grads, max_norm, norm);
    plain.step();
    ASSERT_TRUE(clipping.last_norm() && same_bits(*clipping.last_norm(), norm)) << step;
    for (std::size_t i = 0; i < grads.size(); ++i) {
      EXPECT_TRUE(same_bits(mine.params()[i], theirs.params()[i])) << "parameter " << i << " in step " << step;
      if (!grads[i].defined()) continue;
      EXPECT_TRUE(same_bits(mine.params()[i].grad(), grads[i])) << "gradient " << i << " in step " << step;
    }
  }
}

TEST(ClippedStep, EqualsClippingAndThenStepping) {
  at::set_num_threads(1);
  for (const bool fused : {false, true}) {
    for (const bool mixed : {false, true}) {
      for (const double max_norm : {0.5, 1e6}) {  // above the norm nothing is multiplied
        for (const NonFiniteNorm policy : {NonFiniteNorm::pass, NonFiniteNorm::skip}) {
          for (const double norm_type : {2.0, 1.0}) {
            SCOPED_TRACE(testing::Message() << "fused " << fused << " mixed " << mixed << " max " << max_norm << " p "
                                            << norm_type);
            const SgdOptions sgd{.lr = 0.1, .momentum = 0.9, .weight_decay = 0.01, .fused = fused};
            expect_equals_clipping_first<Sgd>(sgd, mixed, max_norm, norm_type, policy);
            expect_equals_clipping_first<Sgd>(SgdOptions{.lr = 0.1, .fused = fused}, mixed, max_norm, norm_type, policy);
            const AdamOptions adam{.lr = 0.1, .weight_decay = 0.01, .amsgrad = mixed, .fused = fused};
            expect_equals_clipping_first<AdamW>(adam, mixed, max_norm, norm_type, policy);
            expect_equals_clipping_first<Adam>(adam, mixed, max_norm, norm_type, policy);
          }
        }
      }
    }
  }
}

TEST(ClippedStep, DoesNotDependOnTheNumberOfThreads) {
  std::vector<Tensors> results;
  for (const int threads : {1, 3}) {
    at::set_num_threads(threads);
    Tensors params = {random({100, 1000}, 1), random({3}, 2), random({70001}, 3)};
    for (const at::Tensor& param : params) param.set_requires_grad(true);
    WithGradientClipping<Sgd> clipping({.enabled = true, .type = ClipType::full_model, .clip_value = 0.1}, params,
                                       SgdOptions{.lr = 0.1, .momentum = 0.9});
    for (std::uint64_t step = 0; step < 3; ++step) {
      for (const at::Tensor& param : params) param.mutable_grad() = random(param.sizes().vec(), 10 * step);
      clipping.step();
    }
    results.push_back(params);
  }
  at::set_num_threads(1);
  for (std::size_t i = 0; i < 3; ++i) EXPECT_TRUE(same_bits(results[0][i], results[1][i])) << i;
}

void expect_same_state(const Dict& a, const Dict& b) {
  const Dict &mine = a.at("state").as_dict(), &theirs = b.at("state").as_dict();
  ASSERT_EQ(mine.size(), theirs.size());
  for (const auto& [index, state] : mine) {
    ASSERT_EQ(state.as_dict().size(), theirs.at(index).as_dict().size());
    for (const auto& [key, value] : state.as_dict())
      EXPECT_TRUE(same_bits(value.as_tensor(), theirs.at(index).as_dict().at(key).as_tensor()));
  }
}

template <class Base, class Options>
void expect_nothing_changes(const Options& options, NonFiniteNorm policy, int good_steps) {
  const Net net(/*mixed_kinds=*/true);
  WithGradientClipping<Base> clipping({.enabled = true, .type = ClipType::full_model, .clip_value = 0.5, .non_finite = policy},
                                      net.groups, options);
  for (int step = 0; step < good_steps; ++step) {
    net.give_grads(static_cast<std::uint64_t>(step));
    clipping.step();
  }
  net.give_grads(7);
  net.params()[5].mutable_grad().view(-1)[0] = INFINITY;
  Dict before = deep_clone(optimizer_state_dict(clipping));
  std::vector<std::uint32_t> versions;
  Tensors values, grads;
  for (const at::Tensor& param : net.params()) {
    versions.push_back(static_cast<std::uint32_t>(param._version()));
    values.push_back(param.detach().clone());
    grads.push_back(param.grad().clone());
  }
  if (policy == NonFiniteNorm::error) {
    EXPECT_THROW(clipping.step(), Error);
  } else {
    EXPECT_FALSE(clipping.step().defined());
    EXPECT_TRUE(std::isinf(clipping.last_norm()->template item<double>()));
  }
  for (std::size_t i = 0; i < values.size(); ++i) {
    const at::Tensor param = net.params()[i];
    EXPECT_EQ(param._version(), versions[i]) << i;
    EXPECT_TRUE(same_bits(param, values[i])) << i;
    EXPECT_TRUE(same_bits(param.grad(), grads[i])) << i;
  }
  expect_same_state(optimizer_state_dict(clipping), before);
  // What was asked of the step that was left out is not asked of the next.
  net.give_grads(8);
  clipping.step();
  EXPECT_FALSE(same_bits(net.params()[0], values[0]));
}

TEST(ClippedStep, ChangesNothingWhenTheNormForbidsIt) {
  for (const NonFiniteNorm policy : {NonFiniteNorm::error, NonFiniteNorm::skip}) {
    for (const int good_steps : {0, 2}) {
      for (const bool fused : {false, true}) {
        expect_nothing_changes<Sgd>(SgdOptions{.lr = 0.1, .momentum = 0.9, .fused = fused}, policy, good_steps);
        expect_nothing_changes<AdamW>(AdamOptions{.lr = 0.1, .fused = fused}, policy, good_steps);
      }
    }
  }
}

TEST(ClippedStep, TellsAutogradThatParametersChanged) {
  for (const NonFiniteNorm policy : {NonFiniteNorm::pass, NonFiniteNorm::skip}) {
    const Net net(/*mixed_kinds=*/false);
    WithGradientClipping<AdamW> clipping({.enabled = true, .type = ClipType::full_model, .non_finite = policy}, net.groups,
                                         AdamOptions{});
    for (std::uint64_t step = 0; step < 2; ++step) {
      net.give_grads(step + 1);
      std::vector<std::int64_t> versions;
      for (const at::Tensor& param : net.params()) versions.push_back(param._version());
      clipping.step();
      for (std::size_t i = 0; i < versions.size(); ++i) EXPECT_GT(net.params()[i]._version(), versions[i]) << i;
    }
  }
}

TEST(ClippedStep, WithAClosureClipsWhatIsThereBefore) {
  at::Tensor param = at::ones({4}).set_requires_grad(true);
  param.mutable_grad() = at::full({4}, 100.0);
  WithGradientClipping<Sgd> clipping({.enabled = true, .type = ClipType::full_model, .clip_value = 1}, Tensors{param},
                                     SgdOptions{.lr = 0.5});
  clipping.step([&] {
    EXPECT_NEAR(param.grad()[0].item<double>(), 0.5, 1e-6);
    param.mutable_grad() = at::ones({4});
    return param.detach().sum();
  });
  EXPECT_EQ(clipping.last_norm()->item<double>(), 200);
  EXPECT_TRUE(param.detach().eq(0.5).all().item<bool>());  // 1 - 0.5 · 1: the closure's gradient is not clipped
}

class SgdThatCounts : public Sgd {
 public:
  using Sgd::Sgd;
  at::Tensor step(LossClosure closure = nullptr) override {
    ++steps;
    return Sgd::step(std::move(closure));
  }
  int steps = 0;
};

TEST(ClippedStep, GoesThroughTheStepOfADerivedClass) {
  at::Tensor param = at::ones({4}).set_requires_grad(true);
  WithGradientClipping<SgdThatCounts> clipping({.enabled = true, .type = ClipType::full_model, .clip_value = 1}, Tensors{param},
                                               SgdOptions{.lr = 1});
  param.mutable_grad() = at::full({4}, 2.0);
  clipping.step();
  EXPECT_EQ(clipping.steps, 1);
  EXPECT_EQ(clipping.last_norm()->item<double>(), 4);
  EXPECT_NEAR(param.detach()[0].item<double>(), 0.5, 1e-6);
}

/// Has the rule p -= 10 g instead of Sgd's.
class TenfoldSgd : public Sgd {
 public:
  using Sgd::Sgd;
  at::Tensor step(LossClosure = nullptr) override {
    for (const at::Tensor& param : param_groups()[0].params()) param.detach().sub_(param.grad(), 10);
    return {};
  }
};

TEST(ClippedStep, ClipsForADerivedClassWithARuleOfItsOwn) {
  at::Tensor param = at::ones({4}).set_requires_grad(true);
  WithGradientClipping<TenfoldSgd> clipping({.enabled = true, .type = ClipType::full_model, .clip_value = 1}, Tensors{param},
                                            SgdOptions{.lr = 1});
  param.mutable_grad() = at::full({4}, 2.0);
  clipping.step();
  EXPECT_EQ(clipping.last_norm()->item<double>(), 4);
  EXPECT_NEAR(param.grad()[0].item<double>(), 0.5, 1e-6);
  EXPECT_NEAR(param.detach()[0].item<double>(), 1 - 10 * 0.5, 1e-5);
}

TEST(ClippedStep, ThatThrewLeavesNoNormForAnother) {
  at::Tensor param = at::ones({4}).set_requires_grad(true);
  const GradientClippingOptions clip{
      .enabled = true, .type = ClipType::full_model, .clip_value = 1, .non_finite = NonFiniteNorm::error};
  WithGradientClipping<Sgd> clipping(clip, Tensors{param}, SgdOptions{.lr = 1});
  WithGradientClipping<torch::optim::SGD> clipping_before(clip, Tensors{param}, torch::optim::SGDOptions(1));
  param.mutable_grad() = at::full({4}, 2.0);
  clipping.step();
  param.mutable_grad() = at::full({4}, 2.0);
  clipping_before.step();
  param.mutable_grad() = at::full({4}, NAN);
  EXPECT_THROW(clipping.step(), Error);
  EXPECT_FALSE(clipping.last_norm());
  EXPECT_THROW(clipping_before.step(), Error);
  EXPECT_FALSE(clipping_before.last_norm());

  Sgd sgd({param}, {.lr = 1});
  sgd.clip_next_step(clip);
  EXPECT_THROW(sgd.step(), Error);
  param.mutable_grad() = at::full({4}, 2.0);
  sgd.step();
  EXPECT_FALSE(sgd.take_norm());
}

class SgdThatThrows : public torch::optim::SGD {
 public:
  using torch::optim::SGD::SGD;
  at::Tensor step(LossClosure = nullptr) override { throw std::runtime_error("no step"); }
};

TEST(ClippedStep, WhoseOptimizerThrewHasNoNorm) {
  at::Tensor param = at::ones({4}).set_requires_grad(true);
  WithGradientClipping<SgdThatThrows> clipping({.enabled = true, .type = ClipType::full_model, .clip_value = 1}, Tensors{param},
                                               torch::optim::SGDOptions(1));
  param.mutable_grad() = at::full({4}, 2.0);
  EXPECT_THROW(clipping.step(), std::runtime_error);
  EXPECT_FALSE(clipping.last_norm());
}

TEST(ClippedStep, WithoutGradientsTheNormIsZero) {
  WithGradientClipping<Sgd> clipping({.enabled = true, .type = ClipType::full_model}, Tensors{at::ones({4})}, SgdOptions{});
  clipping.step();
  EXPECT_EQ(clipping.last_norm()->item<double>(), 0);
}

TEST(ClippedStep, IsAskedForOneStepAtATime) {
  at::Tensor param = at::ones({4}).set_requires_grad(true);
  Sgd sgd({param}, {.lr = 1});
  param.mutable_grad() = at::full({4}, 2.0);
  sgd.clip_next_step({.clip_value = 1});
  sgd.step();
  EXPECT_EQ(sgd.take_norm()->item<double>(), 4);
  EXPECT_FALSE(sgd.take_norm());
  param.mutable_grad() = at::full({4}, 2.0);
  sgd.step();
  EXPECT_FALSE(sgd.take_norm());
  EXPECT_TRUE(param.grad().eq(2).all().item<bool>());
}

TEST(ClipFactor, HasTheBitsOfAtensOperations) {
  constexpr float kInfinity = std::numeric_limits<float>::infinity();
  for (const double max_norm : {1.0, 0.1, 1e-3, 0.0, 123.456, 1e30}) {
    for (float norm : {0.0F, 1e-30F, 1e-7F, 0.3F, 0.99999905F, 1.0F, 3.1415927F, 12345.678F, 1e30F, kInfinity, NAN}) {
      const at::Tensor tensor = at::full({}, norm);
      const at::Tensor wanted = tensor.add(1e-6).reciprocal().mul(max_norm).clamp_max(1.0);
      EXPECT_TRUE(same_bits(at::full({}, clip_factor(max_norm, tensor)), wanted) || std::isnan(norm)) << max_norm << " " << norm;
      EXPECT_EQ(std::isnan(clip_factor(max_norm, tensor)), std::isnan(wanted.item<double>())) << max_norm << " " << norm;
    }
  }
  EXPECT_NEAR(clip_factor(1, at::full({}, 3.0, at::kDouble)), 1 / 3.000001, 1e-15);
  EXPECT_EQ(clip_factor(1, at::full({}, 0.5, at::kDouble)), 1);
}

#if defined(__linux__)
/// Whether the program asked for huge pages at this address; nothing where the system does not tell.
std::optional<bool> asks_for_huge_pages(const void* address) {
  std::ifstream maps("/proc/self/smaps");
  const auto wanted = reinterpret_cast<std::uintptr_t>(address);
  bool here = false;
  for (std::string line; std::getline(maps, line);) {
    unsigned long begin = 0, end = 0;
    if (std::sscanf(line.c_str(), "%lx-%lx ", &begin, &end) == 2) here = begin <= wanted && wanted < end;
    if (here && line.starts_with("VmFlags:")) return line.find(" hg") != std::string::npos;
  }
  return std::nullopt;
}

TEST(OptimizerState, LiesInHugePagesWhereTheSystemHasThem) {
  if (!std::ifstream("/sys/kernel/mm/transparent_hugepage/enabled")) GTEST_SKIP() << "this system has no transparent huge pages";
  constexpr std::int64_t kSize = 4 << 20;
  at::Tensor param = at::ones({kSize}).set_requires_grad(true);
  param.mutable_grad() = at::ones({kSize});
  for (const bool fused : {false, true}) {
    Sgd sgd({param}, {.momentum = 0.9, .fused = fused});
    AdamW adamw({param}, {.fused = fused});
    sgd.step();
    adamw.step();
    const auto& momentum = static_cast<torch::optim::SGDParamState&>(*sgd.state().begin()->second);
    const auto& moments = static_cast<torch::optim::AdamWParamState&>(*adamw.state().begin()->second);
    for (const at::Tensor& state : {momentum.momentum_buffer(), moments.exp_avg(), moments.exp_avg_sq()}) {
      const auto asked = asks_for_huge_pages(state.const_data_ptr<float>() + kSize / 2);
      if (!asked) GTEST_SKIP() << "this system does not tell about the pages of a process";
      EXPECT_TRUE(*asked);
    }
  }
}
#endif

}  // namespace
}  // namespace treadle

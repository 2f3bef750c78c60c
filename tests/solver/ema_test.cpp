#include <treadle/base/errors.hpp>
#include <treadle/solver/ema.hpp>

#include <ATen/core/grad_mode.h>
#include <ATen/ops/full.h>
#include <ATen/ops/ones.h>
#include <gtest/gtest.h>
#include <torch/nn/modules/batchnorm.h>

namespace treadle {
namespace {

struct Net : torch::nn::Module {
  Net() {
    weight = register_parameter("weight", at::full({4, 3}, 1.0));
    wide = register_parameter("wide", at::full({2, 2}, 1.0, at::kDouble));
    bn = register_module("bn", torch::nn::BatchNorm1d(3));
  }
  void fill(double value) {
    at::NoGradGuard no_grad;
    for (at::Tensor& param : parameters()) param.fill_(value);
    bn->running_mean.fill_(value);
    bn->num_batches_tracked.fill_(static_cast<std::int64_t>(value));
  }
  at::Tensor weight, wide;
  torch::nn::BatchNorm1d bn{nullptr};
};

at::Tensor average_of(const ExponentialMovingAverage& ema, const std::string& name) {
  for (const NamedTensor& average : ema.averages()) {
    if (average.name == name) return average.tensor;
  }
  return {};
}

TEST(ExponentialMovingAverage, TheFirstUpdateCopiesLaterOnesAverage) {
  Net net;
  ExponentialMovingAverage ema(net, {.decay = 0.75});
  net.fill(4);
  ema.update();
  EXPECT_EQ(average_of(ema, "weight")[0][0].item<double>(), 4);
  net.fill(8);
  ema.update();
  EXPECT_EQ(ema.num_updates(), 2);
  for (const char* name : {"weight", "wide", "bn.weight", "bn.running_mean"}) {
    EXPECT_TRUE(average_of(ema, name).eq(5).all().item<bool>()) << name;
  }
  EXPECT_EQ(average_of(ema, "bn.num_batches_tracked").item<std::int64_t>(), 8);
}

TEST(ExponentialMovingAverage, HasTheBitsOfAtensLerp) {
  Net net;
  ExponentialMovingAverage ema(net, {.decay = 0.9});
  ema.update();
  at::Tensor expected = net.weight.detach().clone();
  for (int step = 1; step < 5; ++step) {
    net.fill(0.1 * step);
    expected.lerp_(net.weight.detach(), 1 - 0.9);
    ema.update();
  }
  EXPECT_TRUE(average_of(ema, "weight").equal(expected));
}

TEST(ExponentialMovingAverage, OptionsCount) {
  Net net;
  ExponentialMovingAverage every_third(net, {.period = 3});
  for (int call = 0; call < 7; ++call) every_third.update();
  EXPECT_EQ(every_third.num_updates(), 2);

  ExponentialMovingAverage parameters_only(net, {.buffers = false});
  EXPECT_FALSE(average_of(parameters_only, "bn.running_mean").defined());

  ExponentialMovingAverage warm(net, {.decay = 0.999, .warmup = true});
  net.fill(1);
  warm.update();
  net.fill(13);
  warm.update();  // min(0.999, 3/12)
  EXPECT_FLOAT_EQ(average_of(warm, "weight")[0][0].item<float>(), 10);

  EXPECT_THROW(ExponentialMovingAverage(net, {.decay = 1}), ConfigError);
  EXPECT_THROW(ExponentialMovingAverage(net, {.period = 0}), ConfigError);
}

TEST(ExponentialMovingAverage, SwapsInAndOutInPlace) {
  Net net;
  net.fill(2);
  ExponentialMovingAverage ema(net, {.decay = 0.5});
  net.fill(6);
  const void* storage = net.weight.const_data_ptr();
  {
    ExponentialMovingAverage::Swap swap(ema);
    EXPECT_TRUE(net.weight.eq(2).all().item<bool>());
    EXPECT_TRUE(net.bn->running_mean.eq(2).all().item<bool>());
    EXPECT_EQ(net.weight.const_data_ptr(), storage);
    EXPECT_THROW(ema.update(), Error);
    EXPECT_THROW(ema.state_dict(), Error);
    EXPECT_THROW(ExponentialMovingAverage::Swap{ema}, Error);
  }
  EXPECT_TRUE(net.weight.eq(6).all().item<bool>());
  EXPECT_TRUE(average_of(ema, "weight").eq(2).all().item<bool>());
}

TEST(ExponentialMovingAverage, ASharedParameterIsAveragedAndSwappedOnce) {
  Net net;
  net.register_parameter("tied", net.weight);
  net.fill(2);
  ExponentialMovingAverage ema(net, {.decay = 0.5, .buffers = false});
  EXPECT_FALSE(average_of(ema, "tied").defined());
  ema.update();
  net.fill(6);
  ema.update();
  EXPECT_TRUE(average_of(ema, "weight").eq(4).all().item<bool>());
  {
    ExponentialMovingAverage::Swap swap(ema);
    EXPECT_TRUE(net.weight.eq(4).all().item<bool>());
  }
  EXPECT_TRUE(net.weight.eq(6).all().item<bool>());
  EXPECT_TRUE(average_of(ema, "weight").eq(4).all().item<bool>());
}

TEST(ExponentialMovingAverage, ResumesWithTheSameBits) {
  Net net;
  ExponentialMovingAverage ema(net, {.decay = 0.9, .warmup = true, .period = 2});
  for (int step = 0; step < 5; ++step) {
    net.fill(step * 0.3);
    ema.update();
  }
  Dict saved = deep_clone(ema.state_dict());
  ExponentialMovingAverage resumed(net, {.decay = 0.9, .warmup = true, .period = 2});
  resumed.load_state_dict(saved);
  EXPECT_TRUE(identical(resumed.state_dict(), saved));
  net.fill(0.7);
  ema.update();
  resumed.update();
  EXPECT_TRUE(identical(resumed.state_dict(), ema.state_dict()));
}

TEST(ExponentialMovingAverage, RefusesAStateThatDoesNotFit) {
  Net net;
  ExponentialMovingAverage ema(net);
  Dict good = deep_clone(ema.state_dict());
  auto refused = [&](auto spoil) {
    Dict bad = deep_clone(good);
    spoil(bad, bad.at("averages").as_dict());
    EXPECT_THROW(ema.load_state_dict(bad), FormatError);
    EXPECT_TRUE(identical(ema.state_dict(), good));
  };
  refused([](Dict&, Dict& averages) { averages.erase("weight"); });
  refused([](Dict&, Dict& averages) { averages.set("weight", at::ones({2})); });
  refused([](Dict&, Dict& averages) { averages.set("other", at::ones({2})); });
  refused([](Dict& state, Dict&) { state.set("num_updates", -1); });
  refused([](Dict& state, Dict&) { state.set("calls", -1); });
}

}  // namespace
}  // namespace treadle

#include <treadle/base/errors.hpp>
#include <treadle/solver/grad_scaler.hpp>
#include <treadle/solver/sgd.hpp>

#include <ATen/ops/full.h>
#include <ATen/ops/ones.h>
#include <gtest/gtest.h>

#include <cmath>
#include <string>

namespace treadle {
namespace {

at::Tensor parameter(at::ScalarType type = at::kFloat) { return at::ones({3}, type).set_requires_grad(true); }

TEST(GradScaler, StepsWithTheGradientsOfTheUnscaledLoss) {
  at::Tensor param = parameter();
  Sgd sgd({param}, {.lr = 0.5});
  GradScaler scaler({.init_scale = 1024});
  scaler.scale(param.sum()).backward();
  EXPECT_TRUE(param.grad().eq(1024).all().item<bool>());
  EXPECT_TRUE(scaler.step(sgd));
  scaler.update();
  EXPECT_TRUE(param.detach().eq(0.5).all().item<bool>());
}

TEST(GradScaler, SkipsAndShrinksOnOverflowGrowsAfterTheInterval) {
  for (double poison : {INFINITY, NAN}) {
    at::Tensor param = parameter();
    Sgd sgd({param}, {.lr = 0.5});
    GradScaler scaler({.init_scale = 64, .growth_factor = 4, .backoff_factor = 0.25, .growth_interval = 2});
    param.mutable_grad() = at::full({3}, poison);
    EXPECT_FALSE(scaler.step(sgd));
    scaler.update();
    EXPECT_EQ(scaler.get_scale(), 16);
    EXPECT_TRUE(param.detach().eq(1).all().item<bool>());
    for (double expected : {16.0, 64.0, 64.0, 256.0}) {
      param.mutable_grad() = at::ones({3});
      EXPECT_TRUE(scaler.step(sgd));
      scaler.update();
      EXPECT_EQ(scaler.get_scale(), expected);
    }
    // An overflow starts the count anew.
    param.mutable_grad() = at::ones({3});
    scaler.step(sgd);
    scaler.update();
    EXPECT_EQ(scaler.growth_tracker(), 1);
    param.mutable_grad() = at::full({3}, poison);
    scaler.step(sgd);
    scaler.update();
    EXPECT_EQ(scaler.growth_tracker(), 0);
  }
}

TEST(GradScaler, UnscalesOnce) {
  at::Tensor param = parameter();
  Sgd sgd({param}, {.lr = 0.5});
  GradScaler scaler({.init_scale = 8});
  param.mutable_grad() = at::full({3}, 8.0);
  scaler.unscale(sgd);
  EXPECT_TRUE(param.grad().eq(1).all().item<bool>());
  EXPECT_THROW(scaler.unscale(sgd), Error);
  EXPECT_TRUE(scaler.step(sgd));
  EXPECT_TRUE(param.detach().eq(0.5).all().item<bool>());
  EXPECT_THROW(scaler.step(sgd), Error);
  EXPECT_THROW(scaler.unscale(sgd), Error);
  scaler.update();
  EXPECT_THROW(scaler.update(), Error);
}

TEST(GradScaler, OneOverflowCountsForAllOptimizers) {
  at::Tensor a = parameter(), b = parameter(at::kDouble);
  Sgd first({a}, {.lr = 0.5}), second({b}, {.lr = 0.5});
  GradScaler scaler({.init_scale = 8});
  a.mutable_grad() = at::full({3}, INFINITY);
  b.mutable_grad() = at::full({3}, 8.0, at::kDouble);
  EXPECT_FALSE(scaler.step(first));
  EXPECT_TRUE(scaler.step(second));
  EXPECT_TRUE(b.detach().eq(0.5).all().item<bool>());
  scaler.update();
  EXPECT_EQ(scaler.get_scale(), 4);
  scaler.update(32.0);
  EXPECT_EQ(scaler.get_scale(), 32);
  EXPECT_THROW(scaler.update(-1.0), ConfigError);
}

TEST(GradScaler, RefusesFloat16Gradients) {
  at::Tensor param = parameter(at::kHalf);
  Sgd sgd({param}, {.lr = 0.5});
  GradScaler scaler;
  param.mutable_grad() = at::ones({3}, at::kHalf);
  EXPECT_THROW(scaler.unscale(sgd), Error);
}

TEST(GradScaler, DisabledPassesEverythingThrough) {
  at::Tensor param = parameter();
  Sgd sgd({param}, {.lr = 0.5});
  GradScaler scaler({.enabled = false});
  at::Tensor loss = param.sum();
  EXPECT_TRUE(scaler.scale(loss).is_same(loss));
  param.mutable_grad() = at::ones({3});
  scaler.unscale(sgd);
  EXPECT_TRUE(scaler.step(sgd));
  scaler.update();
  EXPECT_TRUE(param.detach().eq(0.5).all().item<bool>());
  EXPECT_FALSE(scaler.enabled());
  EXPECT_EQ(scaler.get_scale(), 1);
  EXPECT_TRUE(scaler.state_dict().empty());
  EXPECT_NO_THROW(scaler.load_state_dict({}));
}

TEST(GradScaler, StateHasPythonsLayoutAndComesBack) {
  at::Tensor param = parameter();
  Sgd sgd({param}, {.lr = 0.5});
  GradScaler scaler({.init_scale = 8, .growth_factor = 3, .backoff_factor = 0.25, .growth_interval = 5});
  param.mutable_grad() = at::ones({3});
  scaler.step(sgd);
  scaler.update();
  Dict state = scaler.state_dict();
  EXPECT_TRUE(identical(
      state,
      Dict{{"scale", 8.0}, {"growth_factor", 3.0}, {"backoff_factor", 0.25}, {"growth_interval", 5}, {"_growth_tracker", 1}}));
  GradScaler other;
  other.load_state_dict(state);
  EXPECT_TRUE(identical(other.state_dict(), state));
  for (const char* key : {"scale", "growth_factor", "backoff_factor", "growth_interval", "_growth_tracker"}) {
    Dict bad = state;
    bad.set(key, -1);
    EXPECT_THROW(other.load_state_dict(bad), FormatError) << key;
    bad.erase(key);
    EXPECT_THROW(other.load_state_dict(bad), FormatError) << key;
    EXPECT_TRUE(identical(other.state_dict(), state));
  }
}

// The scale is a float32: 2^128 is the first power of two that becomes infinite, 2^-150 the first that becomes 0.
TEST(GradScaler, RefusesAScaleThatNoFloatHolds) {
  GradScaler scaler;
  const Dict good = scaler.state_dict();
  for (const double scale : {0x1p128, 0x1p-150}) {
    EXPECT_THROW(GradScaler({.init_scale = scale}), ConfigError) << scale;
    EXPECT_THROW(scaler.update(scale), ConfigError) << scale;
    Dict bad = good;
    bad.set("scale", scale);
    EXPECT_THROW(scaler.check_state_dict(bad), FormatError) << scale;
    EXPECT_THROW(scaler.load_state_dict(bad), FormatError) << scale;
    EXPECT_TRUE(identical(scaler.state_dict(), good));
  }
}

TEST(GradScaler, RefusesBadOptions) {
  auto refused = [](const GradScalerOptions& options) {
    try {
      GradScaler scaler(options);
    } catch (const ConfigError& error) {
      return error.key();
    }
    return std::string();
  };
  EXPECT_EQ(refused({.init_scale = 0}), "GradScalerOptions.init_scale");
  EXPECT_EQ(refused({.init_scale = 0x1p127}), "");
  EXPECT_EQ(refused({.init_scale = 0x1p-149}), "");
  EXPECT_EQ(refused({.growth_factor = 1}), "GradScalerOptions.growth_factor");
  EXPECT_EQ(refused({.backoff_factor = 1}), "GradScalerOptions.backoff_factor");
  EXPECT_EQ(refused({.growth_interval = 0}), "GradScalerOptions.growth_interval");
}

}  // namespace
}  // namespace treadle

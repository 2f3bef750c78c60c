#include <treadle/base/errors.hpp>
#include <treadle/data/batch_source.hpp>
#include <treadle/engine/amp_trainer.hpp>
#include <treadle/models/make_model.hpp>
#include <treadle/solver/with_gradient_clipping.hpp>

#include <ATen/autocast_mode.h>
#include <ATen/ops/full.h>
#include <gtest/gtest.h>
#include <torch/nn/modules/linear.h>
#include <torch/optim/lbfgs.h>
#include <torch/optim/sgd.h>

#include <limits>

namespace treadle {
namespace {

struct AmpTrainerTest : testing::Test {
  torch::nn::Linear linear{torch::nn::LinearOptions(4, 1).bias(false)};
  std::vector<at::ScalarType> dtypes;  // of the layer's output in each forward pass
  float factor = 1;                    // of the loss
  std::unique_ptr<BatchSource> source = make_batch_source(
      std::function<std::optional<Batch>()>([] { return std::optional<Batch>(Batch(Dict{{"x", at::full({2, 4}, 0.5)}})); }));

  std::shared_ptr<Model> model() {
    return make_model(linear, [this](auto& module, const Batch& batch) {
      const at::Tensor out = module->forward(batch.tensor("x"));
      dtypes.push_back(out.scalar_type());
      return LossDict{{"loss", out.to(at::kFloat).mean() * factor}};
    });
  }
  void SetUp() override { linear->weight.detach().fill_(1); }
  double weight() const { return linear->weight[0][0].item<double>(); }
};

TEST_F(AmpTrainerTest, TheForwardPassRunsInLowerPrecisionAndTheStepInFull) {
  for (const AmpPrecision precision : {AmpPrecision::float16, AmpPrecision::bfloat16}) {
    SetUp();
    dtypes.clear();
    torch::optim::SGD sgd(linear->parameters(), 1.0);
    AMPTrainer trainer(model(), *source, sgd, {}, {.precision = precision});
    trainer.train(0, 1);
    EXPECT_EQ(dtypes, (std::vector<at::ScalarType>{precision == AmpPrecision::float16 ? at::kHalf : at::kBFloat16}));
    EXPECT_EQ(linear->weight.scalar_type(), at::kFloat);
    // The derivative of the mean of w · x is x, whatever the scale.
    EXPECT_EQ(weight(), 1 - 0.5);
    EXPECT_FALSE(at::autocast::is_autocast_enabled(at::kCPU));
    // The next pass sees the new weights: the loss is the sum of four times x w.
    trainer.train(1, 2);
    EXPECT_EQ(trainer.storage().history("loss").latest(), 4 * 0.5 * (1 - 0.5));
  }
}

TEST_F(AmpTrainerTest, AnOverflowLeavesTheStepOutAndLowersTheScale) {
  torch::optim::SGD sgd(linear->parameters(), 1.0);
  // 65536 times 2 does not fit a float16 gradient.
  factor = 2;
  AMPTrainer trainer(model(), *source, sgd, {}, {.scaler = {.init_scale = 65536.0 * 4, .growth_interval = 3}});
  trainer.train(0, 1);
  EXPECT_EQ(weight(), 1);
  EXPECT_EQ(trainer.grad_scaler().get_scale(), 65536.0 * 2);
  trainer.train(1, 5);
  EXPECT_LT(weight(), 1);
  // Gradients that do not fit are the scaler's business, though somebody asks for a check.
  SetUp();
  AMPTrainer checking(model(), *source, sgd, {.non_finite = {.check_gradients = true}}, {.scaler = {.init_scale = 65536.0 * 4}});
  checking.train(0, 1);
  EXPECT_EQ(weight(), 1);
}

TEST_F(AmpTrainerTest, ClippingSeesGradientsThatAreNotScaled) {
  const GradientClippingOptions clip{.enabled = true, .type = ClipType::full_model, .clip_value = 0.5};
  // The norm of four gradients of 0.5 is 1.
  torch::optim::SGD sgd(linear->parameters(), 1.0);
  AMPTrainer by_trainer(model(), *source, sgd, {.clip = clip}, {.scaler = {.init_scale = 1024}});
  by_trainer.train(0, 1);
  EXPECT_EQ(by_trainer.storage().history("grad_norm").latest(), 1);
  EXPECT_NEAR(weight(), 1 - 0.25, 1e-6);

  SetUp();
  WithGradientClipping<torch::optim::SGD> clipping(clip, linear->parameters(), torch::optim::SGDOptions(1.0));
  AMPTrainer by_optimizer(model(), *source, clipping, {}, {.scaler = {.init_scale = 1024}});
  by_optimizer.train(0, 1);
  EXPECT_EQ(by_optimizer.storage().history("grad_norm").latest(), 1);
  EXPECT_NEAR(weight(), 1 - 0.25, 1e-6);
}

TEST_F(AmpTrainerTest, AStepThatTheScalerLeavesOutHasNoNorm) {
  WithGradientClipping<torch::optim::SGD> clipping({.enabled = true, .type = ClipType::full_model}, linear->parameters(),
                                                   torch::optim::SGDOptions(1.0));
  AMPTrainer trainer(model(), *source, clipping, {}, {.scaler = {.init_scale = 1024}});
  trainer.train(0, 1);
  EXPECT_EQ(trainer.storage().count_samples("grad_norm", 100), 1);
  factor = 65536.0F;
  trainer.train(1, 2);
  EXPECT_EQ(trainer.grad_scaler().get_scale(), 512);
  EXPECT_EQ(trainer.storage().count_samples("grad_norm", 100), 1);
}

TEST_F(AmpTrainerTest, AnOverflowIsTheScalersBusinessWhenTheTrainerClips) {
  for (const NonFiniteNorm policy : {NonFiniteNorm::pass, NonFiniteNorm::skip, NonFiniteNorm::error}) {
    SetUp();
    factor = 1;
    torch::optim::SGD sgd(linear->parameters(), 1.0);
    AMPTrainer trainer(model(), *source, sgd, {.clip = {.enabled = true, .type = ClipType::full_model, .non_finite = policy}},
                       {.scaler = {.init_scale = 1024}});
    trainer.train(0, 1);
    EXPECT_EQ(trainer.storage().count_samples("grad_norm", 100), 1);
    const double weight_before = weight();
    factor = 65536.0F;
    trainer.train(1, 2);
    EXPECT_EQ(weight(), weight_before);
    EXPECT_EQ(trainer.grad_scaler().get_scale(), 512);
    EXPECT_EQ(trainer.storage().count_samples("grad_norm", 100), 1);
    factor = 1;
    trainer.train(2, 3);
    EXPECT_LT(weight(), weight_before);
    EXPECT_EQ(trainer.storage().count_samples("grad_norm", 100), 2);
  }
}

TEST_F(AmpTrainerTest, EveryOptionOfTheSimpleTrainerCounts) {
  torch::optim::SGD sgd(linear->parameters(), 1.0);
  AMPTrainer trainer(model(), *source, sgd, {.zero_grad_before_forward = true, .gather_metric_period = 2, .batches_per_step = 2});
  trainer.train(0, 2);
  EXPECT_EQ(dtypes.size(), 4U);
  EXPECT_EQ(weight(), 1 - 2 * 0.5);
  EXPECT_EQ(trainer.storage().count_samples("loss", 100), 1);
}

TEST_F(AmpTrainerTest, ALossThatIsNotFiniteIsSkippedAndTheScalerGoesOn) {
  torch::optim::SGD sgd(linear->parameters(), 1.0);
  factor = std::numeric_limits<float>::quiet_NaN();
  AMPTrainer trainer(model(), *source, sgd, {.non_finite = {.action = NonFiniteAction::skip}}, {.scaler = {.init_scale = 8}});
  trainer.train(0, 1);
  factor = 1;
  trainer.train(1, 2);
  EXPECT_EQ(weight(), 1 - 0.5);
  EXPECT_EQ(trainer.grad_scaler().get_scale(), 4);
  factor = std::numeric_limits<float>::quiet_NaN();
  AMPTrainer stopping(model(), *source, sgd);
  EXPECT_THROW(stopping.train(0, 1), NonFiniteError);
  // Its gradients were unscaled; the next step's are all the same.
  const double before = weight();
  factor = 1;
  stopping.train(0, 1);
  EXPECT_EQ(weight(), before - 0.5);
}

TEST_F(AmpTrainerTest, TheScalerIsPartOfTheState) {
  torch::optim::SGD sgd(linear->parameters(), 1.0);
  AMPTrainer trainer(model(), *source, sgd, {}, {.scaler = {.init_scale = 16, .growth_interval = 3}});
  trainer.train(0, 2);
  const Dict state = trainer.state_dict();
  EXPECT_EQ(state.at("grad_scaler").as_dict().at("_growth_tracker").as_int(), 2);
  AMPTrainer resumed(model(), *source, sgd, {}, {.scaler = {.init_scale = 4, .growth_interval = 3}});
  resumed.load_state_dict(state);
  resumed.train(2, 3);
  EXPECT_EQ(resumed.grad_scaler().get_scale(), 32);
  Dict broken = deep_clone(Value(state)).as_dict();
  broken.at("grad_scaler").as_dict().set("scale", -1.0);
  EXPECT_THROW(resumed.check_state_dict(broken), FormatError);
}

TEST_F(AmpTrainerTest, RefusesWhatItCannotDo) {
  torch::optim::LBFGS lbfgs(linear->parameters(), 1.0);
  EXPECT_THROW(AMPTrainer(model(), *source, lbfgs), ConfigError);
  torch::optim::SGD sgd(linear->parameters(), 1.0);
  EXPECT_THROW(AMPTrainer(model(), *source, sgd, {.closure = true}), ConfigError);
  EXPECT_THROW(AMPTrainer(model(), *source, sgd, {}, {.scaler = {.init_scale = -1}}), ConfigError);
  EXPECT_EQ(amp_precision_from_string("bfloat16"), AmpPrecision::bfloat16);
  EXPECT_EQ(amp_precision_from_string("float16"), AmpPrecision::float16);
  EXPECT_THROW(amp_precision_from_string("float8"), ConfigError);
}

}  // namespace
}  // namespace treadle

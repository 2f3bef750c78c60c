#include <tests/support/fake_group.hpp>
#include <treadle/base/log.hpp>
#include <treadle/data/batch_source.hpp>
#include <treadle/engine.hpp>
#include <treadle/models/make_model.hpp>
#include <treadle/solver/with_gradient_clipping.hpp>

#include <ATen/ops/full.h>
#include <gtest/gtest.h>
#include <torch/optim/adagrad.h>
#include <torch/optim/lbfgs.h>
#include <torch/optim/rmsprop.h>
#include <torch/optim/sgd.h>

#include <algorithm>
#include <cmath>
#include <limits>

namespace treadle {
namespace {

/// One weight w and the losses x · w and 2 x w.
struct Net final : torch::nn::Module {
  Net() { w = register_parameter("w", torch::ones({1})); }
  torch::Tensor w;
};

using NetLosses = std::function<LossDict(Net&, const Batch&)>;

LossDict two_losses(Net& net, const Batch& batch) {
  const auto loss = (batch.tensor("x") * net.w).mean();
  return {{"loss_a", loss}, {"loss_b", 2 * loss}};
}

Batch batch_of(float x) { return Batch(Dict{{"x", at::full({2}, x)}}); }

struct SimpleTrainerTest : testing::Test {
  std::vector<std::string> lines;
  LogCapture capture{[this](LogLevel, std::string_view line) { lines.emplace_back(line); }};
  std::shared_ptr<Net> net = std::make_shared<Net>();
  torch::optim::SGD optimizer{net->parameters(), torch::optim::SGDOptions(0.5).momentum(0.9)};
  std::unique_ptr<BatchSource> source = make_batch_source(std::vector<Batch>{batch_of(1), batch_of(3)}, "numbers");

  std::unique_ptr<BatchSource> endless() {
    auto next = [i = 0]() mutable -> std::optional<Batch> { return batch_of(i++ % 2 == 0 ? 1 : 3); };
    return make_batch_source(std::function<std::optional<Batch>()>(next));
  }
  std::shared_ptr<Model> model(NetLosses losses = two_losses) {
    return make_model(net, [losses](auto& module, const Batch& batch) { return losses(*module, batch); });
  }
};

TEST_F(SimpleTrainerTest, MakesTheStepByHand) {
  source = endless();
  SimpleTrainer trainer(model(), *source, optimizer);
  trainer.train(0, 2);
  // The gradient is 3 x: momentum SGD with rate 0.5 from w = 1.
  const double after_first = 1 - 0.5 * 3, after_second = after_first - 0.5 * (0.9 * 3 + 9);
  EXPECT_FLOAT_EQ(net->w.item<float>(), static_cast<float>(after_second));
  const EventStorage& storage = trainer.storage();
  EXPECT_EQ(storage.history("loss_a").latest(), 3 * after_first);
  EXPECT_EQ(storage.history("loss_b").latest(), 6 * after_first);
  EXPECT_EQ(storage.history("total_loss").latest(), 9 * after_first);
  EXPECT_GE(storage.history("data_time").latest(), 0);
  std::vector<std::string> names;
  for (const auto& [name, latest] : storage.latest()) names.push_back(name);
  EXPECT_EQ(names, (std::vector<std::string>{"rank_data_time", "data_time", "total_loss", "loss_a", "loss_b"}));
}

TEST_F(SimpleTrainerTest, GradientsDoNotPileUpWhicheverWayTheyAreZeroed) {
  for (const bool before_forward : {false, true}) {
    net->w.detach().fill_(1);
    net->w.mutable_grad() = torch::full({1}, 100.0f);
    torch::optim::SGD plain(net->parameters(), 0.5);
    source = endless();
    bool zeroed_in_forward = false;
    SimpleTrainer trainer(model([&](Net& n, const Batch& batch) {
                            zeroed_in_forward = !n.w.grad().defined() || n.w.grad().item<float>() == 0;
                            return two_losses(n, batch);
                          }),
                          *source, plain, {.zero_grad_before_forward = before_forward});
    trainer.train(0, 1);
    EXPECT_FLOAT_EQ(net->w.item<float>(), -0.5f);
    EXPECT_EQ(zeroed_in_forward, before_forward);
  }
}

TEST_F(SimpleTrainerTest, ASingleLossIsStoredUnderItsOwnNameAndAsTotal) {
  source = endless();
  SimpleTrainer trainer(model([](Net& n, const Batch&) { return LossDict{{"only", n.w.sum()}}; }), *source, optimizer);
  trainer.train(0, 1);
  EXPECT_EQ(trainer.storage().history("only").latest(), 1);
  EXPECT_EQ(trainer.storage().history("total_loss").latest(), 1);
}

TEST_F(SimpleTrainerTest, MetricsAreGatheredEveryNIterations) {
  source = endless();
  SimpleTrainer trainer(model(), *source, optimizer, {.gather_metric_period = 3});
  trainer.train(0, 7);
  EXPECT_EQ(trainer.storage().count_samples("total_loss", 100), 2);
  EXPECT_THROW(SimpleTrainer(model(), *source, optimizer, {.gather_metric_period = 0}), ConfigError);
}

TEST_F(SimpleTrainerTest, ClipsForAnOptimizerThatDoesNot) {
  source = endless();
  torch::optim::SGD plain(net->parameters(), 0.5);
  GradientClippingOptions clip{.enabled = true, .type = ClipType::full_model, .clip_value = 0.1};
  SimpleTrainer trainer(model(), *source, plain, {.clip = clip});
  trainer.train(0, 2);
  // The gradients 3 and 9 come down to 0.1.
  EXPECT_NEAR(net->w.item<float>(), 1 - 0.5 * 0.2, 1e-6);
  EXPECT_EQ(trainer.storage().history("grad_norm").latest(), 9);
  clip.clip_value = -1;
  EXPECT_THROW(SimpleTrainer(model(), *source, plain, {.clip = clip}), ConfigError);
}

TEST_F(SimpleTrainerTest, ANormThatIsNotFiniteLeavesTheStepOut) {
  source = endless();
  torch::optim::SGD plain(net->parameters(), 0.5);
  SimpleTrainer trainer(model([](Net& n, const Batch&) {
                          // The value is 0, its derivative infinite.
                          return LossDict{{"root", (n.w - 1).sqrt().sum()}};
                        }),
                        *source, plain,
                        {.clip = {.enabled = true, .type = ClipType::full_model, .non_finite = NonFiniteNorm::skip}});
  trainer.train(0, 2);
  EXPECT_EQ(net->w.item<float>(), 1);
  EXPECT_TRUE(std::isinf(trainer.storage().history("grad_norm").latest()));
}

TEST_F(SimpleTrainerTest, TheNormOfAnOptimizerThatClipsIsRecorded) {
  source = endless();
  const GradientClippingOptions clip{.enabled = true, .type = ClipType::full_model, .clip_value = 0.1};
  WithGradientClipping<torch::optim::SGD> clipping(clip, net->parameters(), torch::optim::SGDOptions(0.5));
  SimpleTrainer trainer(model(), *source, clipping);
  trainer.train(0, 1);
  EXPECT_EQ(trainer.storage().history("grad_norm").latest(), 3);
  EXPECT_NEAR(net->w.item<float>(), 1 - 0.5 * 0.1, 1e-6);
  EXPECT_THROW(SimpleTrainer(model(), *source, clipping, {.clip = clip}), ConfigError);
}

TEST_F(SimpleTrainerTest, OptimizersOfLibTorchTrain) {
  // (w - 3)² from w = 1: every one of them comes closer.
  const auto parabola = [](Net& n, const Batch&) { return LossDict{{"square", (n.w - 3).square().sum()}}; };
  const auto run = [&](torch::optim::Optimizer& any, std::int64_t steps) {
    net->w.detach().fill_(1);
    source = endless();
    SimpleTrainer trainer(model(parabola), *source, any);
    trainer.train(0, steps);
    return std::abs(net->w.item<double>() - 3);
  };
  torch::optim::RMSprop rmsprop(net->parameters(), torch::optim::RMSpropOptions(0.05));
  torch::optim::Adagrad adagrad(net->parameters(), torch::optim::AdagradOptions(0.5));
  torch::optim::LBFGS lbfgs(net->parameters(), torch::optim::LBFGSOptions(0.5).max_iter(20));
  EXPECT_LT(run(rmsprop, 40), 0.5);
  EXPECT_LT(run(adagrad, 40), 0.5);
  EXPECT_LT(run(lbfgs, 1), 1e-3);
}

TEST_F(SimpleTrainerTest, AClosureComputesTheLossesOfTheSameBatchAnew) {
  int forwards = 0, batches = 0;
  source = make_batch_source(std::function<std::optional<Batch>()>([&]() -> std::optional<Batch> {
    ++batches;
    return batch_of(1);
  }));
  torch::optim::LBFGS lbfgs(net->parameters(), torch::optim::LBFGSOptions(0.1).max_iter(4));
  SimpleTrainer trainer(model([&](Net& n, const Batch&) {
                          ++forwards;
                          return LossDict{{"square", (n.w - 3).square().sum()}};
                        }),
                        *source, lbfgs);
  trainer.train(0, 2);
  EXPECT_EQ(batches, 2);
  EXPECT_EQ(forwards, 8);
  EXPECT_EQ(trainer.storage().count_samples("square", 100), 2);
  // A class of one's own can ask for a closure too, and LBFGS without one says what it lacks.
  EXPECT_ANY_THROW(SimpleTrainer(model(), *source, lbfgs, {.closure = false}).train(0, 1));
  struct CountingSgd final : torch::optim::SGD {
    using torch::optim::SGD::SGD;
    torch::Tensor step(LossClosure closure) override {
      closures += closure != nullptr;
      return torch::optim::SGD::step(closure);
    }
    int closures = 0;
  } counting(net->parameters(), torch::optim::SGDOptions(0.1));
  SimpleTrainer(model(), *source, counting, {.closure = true}).train(0, 1);
  SimpleTrainer(model(), *source, counting).train(0, 1);
  EXPECT_EQ(counting.closures, 1);
}

TEST_F(SimpleTrainerTest, ADifferentWeightDecayCountsOnResumeUnlessTurnedRound) {
  source = endless();
  torch::optim::SGD saved(net->parameters(), torch::optim::SGDOptions(0.1).weight_decay(0.25));
  const Dict state = SimpleTrainer(model(), *source, saved).state_dict();
  for (const ResumeSettings settings : {ResumeSettings::current, ResumeSettings::saved}) {
    lines.clear();
    torch::optim::SGD other(net->parameters(), torch::optim::SGDOptions(0.1).weight_decay(0.5));
    SimpleTrainer(model(), *source, other, {.resume = settings}).load_state_dict(state);
    const bool current = settings == ResumeSettings::current;
    EXPECT_EQ(static_cast<torch::optim::SGDOptions&>(other.param_groups()[0].options()).weight_decay(), current ? 0.5 : 0.25);
    EXPECT_EQ(lines.size(), current ? 1U : 0U);
  }
}

TEST_F(SimpleTrainerTest, ANonFiniteLossStopsBeforeTheOptimizer) {
  source = make_batch_source(std::function<std::optional<Batch>()>([i = std::int64_t{0}]() mutable {
    i += 2;
    return std::optional<Batch>(Batch(Dict{{"x", at::full({2}, 1.0)}}, {i, i + 1}));
  }));
  SimpleTrainer trainer(model([&](Net& n, const Batch&) {
                          const float factor = n.w.item<float>() < 1 ? std::numeric_limits<float>::infinity() : 1.0f;
                          return LossDict{{"fine", n.w.sum()}, {"bad", (n.w * factor).sum()}};
                        }),
                        *source, optimizer);
  try {
    trainer.train(0, 5);
    FAIL();
  } catch (const NonFiniteError& error) {
    EXPECT_EQ(error.iteration(), 1);
    EXPECT_EQ(error.losses().at(1).first, "bad");
    EXPECT_EQ(error.losses().at(0).second, 0);
    EXPECT_EQ(error.ids(), (std::vector<std::int64_t>{4, 5}));
  }
  EXPECT_EQ(net->w.item<float>(), 0);
}

TEST_F(SimpleTrainerTest, SeveralBatchesMakeOneStepOfTheirMean) {
  source = endless();
  torch::optim::SGD plain(net->parameters(), 0.5);
  SimpleTrainer trainer(model(), *source, plain, {.batches_per_step = 4});
  trainer.train(0, 2);
  // Four batches of x = 1, 3, 1, 3: the mean gradient of 3 x is 6.
  EXPECT_FLOAT_EQ(net->w.item<float>(), 1 - 2 * 0.5f * 6);
  EXPECT_EQ(trainer.storage().history("loss_a").latest(), 2 * (1 - 0.5 * 6));
  EXPECT_THROW(SimpleTrainer(model(), *source, plain, {.batches_per_step = 0}), ConfigError);
  torch::optim::LBFGS lbfgs(net->parameters(), 0.5);
  EXPECT_THROW(SimpleTrainer(model(), *source, lbfgs, {.batches_per_step = 2}), ConfigError);
}

TEST_F(SimpleTrainerTest, BatchesOfOneStepGiveTheSameLosses) {
  int calls = 0;
  source = endless();
  SimpleTrainer trainer(model([&](Net& n, const Batch&) { return LossDict{{++calls == 2 ? "other" : "first", n.w.sum()}}; }),
                        *source, optimizer, {.batches_per_step = 2});
  EXPECT_THROW(trainer.train(0, 1), Error);
}

TEST_F(SimpleTrainerTest, StepsThatAreNotFiniteAreSkippedAndCounted) {
  int step = 0;
  const auto sometimes_nan = [&](Net& n, const Batch&) {
    const float factor = ++step % 3 == 0 ? std::numeric_limits<float>::quiet_NaN() : 1.0f;
    return LossDict{{"loss", (n.w * factor).sum()}};
  };
  const auto ids = [] { return std::optional<Batch>(Batch(Dict{{"x", at::full({2}, 1.0)}}, {41, 42})); };
  source = make_batch_source(std::function<std::optional<Batch>()>(ids));
  torch::optim::SGD plain(net->parameters(), 0.125);
  SimpleTrainer trainer(model(sometimes_nan), *source, plain, {.non_finite = {.action = NonFiniteAction::skip, .max_skips = 2}});
  trainer.train(0, 8);
  EXPECT_EQ(net->w.item<float>(), 1 - 6 * 0.125f);
  EXPECT_EQ(trainer.storage().history("skipped_steps").latest(), 2);
  EXPECT_EQ(trainer.storage().count_samples("loss", 100), 6);
  EXPECT_TRUE(std::ranges::any_of(lines, [](const std::string& line) { return line.find("41, 42") != std::string::npos; }));
  EXPECT_EQ(trainer.state_dict().at("skipped_steps").as_int(), 2);

  SimpleTrainer resumed(model(sometimes_nan), *source, plain, {.non_finite = {.action = NonFiniteAction::skip, .max_skips = 2}});
  resumed.load_state_dict(trainer.state_dict());
  EXPECT_THROW(resumed.train(8, 12), NonFiniteError);
}

TEST_F(SimpleTrainerTest, GradientsThatAreNotFiniteAreSeenOnRequest) {
  // The value is 0, its derivative infinite.
  const auto root = [](Net& n, const Batch&) { return LossDict{{"root", (n.w - 1).sqrt().sum()}}; };
  source = endless();
  torch::optim::SGD plain(net->parameters(), 0.5);
  EXPECT_THROW(SimpleTrainer(model(root), *source, plain, {.non_finite = {.check_gradients = true}}).train(0, 1), NonFiniteError);
  EXPECT_EQ(net->w.item<float>(), 1);
  SimpleTrainer(model(root), *source, plain).train(0, 1);
  EXPECT_FALSE(std::isfinite(net->w.item<float>()));
}

TEST_F(SimpleTrainerTest, ANonFiniteLossOfAnotherRankStopsThisOneToo) {
  source = endless();
  auto group = std::make_shared<FakeGroup>(0, 2);
  group->play_exchange = [](const std::vector<double>& own) {
    auto other = own;
    other[1] = 0;
    return StepRows{own, other};
  };
  SimpleTrainer trainer(model(), *source, optimizer, {.trainer = {.group = group, .events = {}}});
  EXPECT_THROW(trainer.train(0, 1), NonFiniteError);
  EXPECT_EQ(net->w.item<float>(), 1);
}

TEST_F(SimpleTrainerTest, MetricsAreMeansOverTheRanks) {
  source = endless();
  auto group = std::make_shared<FakeGroup>(0, 2);
  group->play_exchange = [](const std::vector<double>& own) {
    auto other = own;
    other[3] = 77;
    other[4] = 3;
    return StepRows{own, other};
  };
  SimpleTrainer trainer(model(), *source, optimizer, {.trainer = {.group = group, .events = {}}});
  trainer.train(0, 1);
  EXPECT_EQ(trainer.storage().history("loss_a").latest(), 2);
  EXPECT_EQ(trainer.storage().history("loss_b").latest(), 2);
  EXPECT_EQ(trainer.storage().history("total_loss").latest(), 4);
  EXPECT_EQ(trainer.storage().history("data_time").latest(), 77);
  EXPECT_LT(trainer.storage().history("rank_data_time").latest(), 77);
}

TEST_F(SimpleTrainerTest, AnEndOfTheBatchesIsAnErrorWithNameAndIteration) {
  SimpleTrainer trainer(model(), *source, optimizer);
  try {
    trainer.train(0, 5);
    FAIL();
  } catch (const Error& error) {
    EXPECT_STREQ(error.what(), "the batches of \"numbers\" ended before iteration 2 of 5; training needs a source without end");
  }
}

TEST_F(SimpleTrainerTest, UnusableLossesAreNamed) {
  source = endless();
  const auto message = [&](const NetLosses& losses) {
    SimpleTrainer trainer(model(losses), *source, optimizer);
    try {
      trainer.train(0, 1);
    } catch (const Error& error) {
      return std::string(error.what());
    }
    return std::string();
  };
  EXPECT_NE(message([](Net&, const Batch&) { return LossDict{}; }).find("no losses in iteration 0"), std::string::npos);
  EXPECT_NE(message([](Net& n, const Batch&) { return LossDict{{"wide", n.w.expand({3})}}; }).find("\"wide\" is not a scalar"),
            std::string::npos);
  EXPECT_NE(message([](Net&, const Batch&) { return LossDict{{"none", at::Tensor()}}; }).find("\"none\""), std::string::npos);
  EXPECT_NE(message([](Net& n, const Batch&) { return LossDict{{"cut", n.w.detach().sum()}}; }).find("needs a gradient"),
            std::string::npos);
  EXPECT_THROW(SimpleTrainer(nullptr, *source, optimizer), Error);
}

TEST_F(SimpleTrainerTest, ThePassIntoAnotherLoopUsesItsHooksAndStorage) {
  struct Outer final : TrainerBase {
    explicit Outer(SimpleTrainer& inner) : inner_(inner) {}
    void run_step() override { inner_.run_step_for(*this); }
    SimpleTrainer& inner_;
  };
  struct Counts final : HookBase {
    int after_backwards = 0;
    void after_backward(TrainerBase&) override { ++after_backwards; }
  };
  source = endless();
  SimpleTrainer inner(model(), *source, optimizer);
  Outer outer(inner);
  Counts& counts = outer.add_hook<Counts>();
  outer.train(0, 3);
  EXPECT_EQ(counts.after_backwards, 3);
  EXPECT_EQ(outer.storage().count_samples("total_loss", 10), 3);
  EXPECT_TRUE(inner.storage().latest().empty());
}

TEST_F(SimpleTrainerTest, StateHoldsTheOptimizer) {
  source = endless();
  SimpleTrainer trainer(model(), *source, optimizer);
  trainer.train(0, 2);
  const Dict state = deep_clone(trainer.state_dict());
  EXPECT_EQ(state.at("iteration").as_int(), 1);
  const auto w = net->w.detach().clone();
  trainer.train(2, 4);
  const auto expected = net->w.detach().clone();

  auto other = std::make_shared<Net>();
  other->w.detach().copy_(w);
  torch::optim::SGD fresh(other->parameters(), torch::optim::SGDOptions(0.25).momentum(0.9));
  auto other_source = endless();
  SimpleTrainer resumed(make_model(other, [](auto& module, const Batch& batch) { return two_losses(*module, batch); }),
                        *other_source, fresh);
  resumed.check_state_dict(state);
  resumed.load_state_dict(state);
  resumed.train(resumed.start_iter(), 4);
  EXPECT_TRUE(other->w.equal(expected));
  EXPECT_THROW(resumed.check_state_dict({{"iteration", 1}}), FormatError);
}

TEST_F(SimpleTrainerTest, TheModelTrains) {
  net->eval();
  SimpleTrainer trainer(model(), *source, optimizer);
  EXPECT_TRUE(trainer.model().is_training());
  EXPECT_TRUE(net->is_training());
}

}  // namespace
}  // namespace treadle

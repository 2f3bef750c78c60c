#include "tests/engine/distributed_net.hpp"
#include "tests/support/bell.hpp"

#include <treadle/base/errors.hpp>
#include <treadle/base/log.hpp>
#include <treadle/engine/amp_trainer.hpp>
#include <treadle/engine/distributed_model.hpp>

#include <ATen/ops/full_like.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <torch/optim/sgd.h>
#include <unistd.h>

#include <cmath>
#include <limits>
#include <string>
#include <vector>

namespace treadle {
namespace {

TEST(DistributedTrainer, SendsGradientsWithTheLastBatchOfAStepAlone) {
  expect_ranks(3, [](Group& group) {
    const LogCapture quiet([](LogLevel, std::string_view) {});
    int sent = 0;
    const GradientHook hook = [&sent](const GradientBucket& bucket) -> GradientMessage {
      ++sent;
      return {bucket.gradients / bucket.world_size, [](const at::Tensor& sum) { return sum; }};
    };
    auto net = std::make_shared<Net>();
    fill(*net, 1);
    auto model = create_ddp_model(model_of(net), borrow(group), {.gradients = {.hook = hook}});
    torch::optim::SGD optimizer(model->parameters(), 0.5);
    // Four batches a step: with three ranks twelve shards in all.
    const auto source = source_of([&](int i) { return shard(i * 3 + group.get_rank()); });
    SimpleTrainer trainer(model, *source, optimizer, {.batches_per_step = 4, .trainer = {.group = borrow(group)}});
    trainer.train(0, 1);
    EXPECT_EQ(sent, 1);
    auto alone = std::make_shared<Net>();
    fill(*alone, 1);
    const Dict gradients = gradients_alone(shard(0, 12));
    for (const NamedTensor& parameter : treadle::named_parameters(*alone)) {
      const at::Tensor expected = parameter.tensor.detach() - 0.5 * gradients.at(parameter.name).as_tensor();
      const at::Tensor got = module_state_dict(*net).at(parameter.name).as_tensor();
      EXPECT_LE((got - expected).abs().max().item<double>(), 1e-6) << parameter.name;
    }
    // Metrics are means over the ranks and batches.
    double mean = 0;
    for (int i = 0; i < 12; ++i) mean += model_of(alone)->losses(shard(i))[0].second.item<double>() / 12;
    EXPECT_NEAR(trainer.storage().history("square").latest(), mean, 1e-6);
  });
}

/// Notes the losses by which an optimizer with a closure decides.
struct Decider final : torch::optim::SGD {
  using SGD::SGD;
  at::Tensor step(LossClosure closure = nullptr) override {
    for (int i = 0; i < 2; ++i) seen.push_back(closure().item<double>());
    return SGD::step(nullptr);
  }
  std::vector<double> seen;
};

TEST(DistributedTrainer, AClosureGivesTheMeanLossOfAllRanks) {
  expect_ranks(2, [](Group& group) {
    const LogCapture quiet([](LogLevel, std::string_view) {});
    auto net = std::make_shared<Net>();
    fill(*net, 1);
    auto model = create_ddp_model(model_of(net), borrow(group));
    Decider optimizer(model->parameters(), 0.1);
    const auto source = source_of([&](int) { return shard(group.get_rank()); });
    SimpleTrainer trainer(model, *source, optimizer, {.closure = true, .trainer = {.group = borrow(group)}});
    trainer.train(0, 1);
    auto alone = std::make_shared<Net>();
    fill(*alone, 1);
    const double mean = sum(model_of(alone)->losses(shard(0, 2))).item<double>();
    ASSERT_EQ(optimizer.seen.size(), 2U);
    for (double loss : optimizer.seen) EXPECT_NEAR(loss, mean, 1e-6 * std::fabs(mean));
  });
}

enum class Bad { loss, gradient, nothing };

/// A run in which the last rank's batch 1 is bad; or it is left out on all ranks, and nothing is bad.
struct BadRun {
  BadRun(Group& in, Bad bad, SimpleTrainerOptions options, std::optional<AmpPrecision> amp = {})
      : group(in), victim(bad != Bad::nothing && in.get_rank() == in.get_world_size() - 1) {
    fill(*net, 1);
    source = source_of([this, bad](int i) {
      batch = i + (bad == Bad::nothing && i > 0 ? 1 : 0);
      const Batch good = shard(4 * batch + group.get_rank());
      if (batch != 1 || !victim || bad != Bad::loss) return good;
      return Batch(
          Dict{{"x", good.tensor("x")}, {"y", at::full_like(good.tensor("y"), std::numeric_limits<double>::quiet_NaN())}});
    });
    net->first->weight.register_hook([this, bad](const at::Tensor& grad) {
      return batch == 1 && victim && bad == Bad::gradient ? grad * std::numeric_limits<float>::infinity() : grad;
    });
    options.trainer.group = borrow(group);
    auto model = create_ddp_model(model_of(net), borrow(group));
    sgd = std::make_unique<torch::optim::SGD>(model->parameters(), torch::optim::SGDOptions(0.1).momentum(0.9));
    if (amp) {
      trainer = std::make_unique<AMPTrainer>(model, *source, *sgd, options,
                                             AmpOptions{.precision = *amp, .scaler = {.init_scale = 64}});
    } else {
      trainer = std::make_unique<SimpleTrainer>(model, *source, *sgd, options);
    }
  }

  Dict weights() const { return deep_clone(module_state_dict(*net)); }
  void expect_equal_finite_weights() const {
    const List all = group.all_gather(weights());
    for (const Value& each : all) EXPECT_TRUE(identical(each, all[0]));
    for (const NamedTensor& parameter : treadle::named_parameters(*net))
      EXPECT_TRUE(parameter.tensor.isfinite().all().item<bool>());
  }

  Group& group;
  bool victim;
  int batch = 0;
  std::shared_ptr<Net> net = std::make_shared<Net>();
  std::unique_ptr<BatchSource> source;
  std::unique_ptr<torch::optim::SGD> sgd;
  std::unique_ptr<SimpleTrainer> trainer;
  LogCapture quiet{[](LogLevel, std::string_view) {}};
};

SimpleTrainerOptions on_non_finite(NonFiniteAction action, Bad bad) {
  return {.non_finite = {.action = action, .check_gradients = bad == Bad::gradient, .rollback_period = 1}};
}

/// A loss, and a gradient where they are looked at; the size of the group.
struct OneRanksBadStep : testing::TestWithParam<std::tuple<Bad, int>> {
  Bad bad = std::get<0>(GetParam());
  int size = std::get<1>(GetParam());
};
INSTANTIATE_TEST_SUITE_P(Every, OneRanksBadStep,
                         testing::Combine(testing::Values(Bad::loss, Bad::gradient), testing::ValuesIn(kSizes)));

TEST_P(OneRanksBadStep, MakesAllRanksSkip) {
  expect_ranks(size, [this](Group& group) {
    BadRun run(group, bad, on_non_finite(NonFiniteAction::skip, bad));
    run.trainer->train(0, 3);
    EXPECT_EQ(run.trainer->storage().history("skipped_steps").values(), (std::vector<HistoryBuffer::Sample>{{1, 1}}));
    run.expect_equal_finite_weights();
  });
}

TEST_P(OneRanksBadStep, StopsAllRanksInTheSameIteration) {
  const auto results = run_ranks(size, [this](Group& group) -> std::string {
    BadRun whole(group, Bad::nothing, {});
    whole.trainer->train(0, 1);
    BadRun run(group, bad, on_non_finite(NonFiniteAction::stop, bad));
    try {
      run.trainer->train(0, 3);
    } catch (const NonFiniteError& error) {
      EXPECT_EQ(run.trainer->outcome(), Outcome::failed);
      EXPECT_EQ(run.trainer->storage().history("square").values().size(), 1u);
      EXPECT_TRUE(identical(run.weights(), whole.weights()));  // those of before the bad step
      return "stopped in iteration " + std::to_string(error.iteration());
    }
    return "no NonFiniteError";
  });
  for (const RankResult& result : results) {
    EXPECT_EQ(result.said, "stopped in iteration 1");
    EXPECT_EQ(result.status, 0);
  }
}

TEST_P(OneRanksBadStep, TakesAllRanksBack) {
  expect_ranks(size, [this](Group& group) {
    BadRun whole(group, Bad::nothing, {});
    whole.trainer->train(0, 3);
    BadRun run(group, bad, on_non_finite(NonFiniteAction::roll_back, bad));
    run.trainer->train(0, 3);
    EXPECT_EQ(run.trainer->storage().history("rollbacks").latest(), 1);
    EXPECT_EQ(run.batch, 3);
    EXPECT_TRUE(identical(run.weights(), whole.weights()));
    run.expect_equal_finite_weights();
  });
}

TEST(DistributedTrainer, OneRanksBadStepInMixedPrecisionIsLeftOutOnAllRanks) {
  for (const AmpPrecision precision : {AmpPrecision::float16, AmpPrecision::bfloat16}) {
    for (const Bad bad : {Bad::loss, Bad::gradient}) {
      expect_ranks(2, [=](Group& group) {
        BadRun run(group, bad, on_non_finite(NonFiniteAction::skip, bad), precision);
        run.trainer->train(0, 3);
        // A gradient that overflows with float16 is the scaler's business.
        const bool scaled = precision == AmpPrecision::float16;
        EXPECT_EQ(run.trainer->storage().count_samples("skipped_steps", 9), scaled && bad == Bad::gradient ? 0 : 1);
        if (auto* amp = dynamic_cast<AMPTrainer*>(run.trainer.get()); scaled) {
          EXPECT_EQ(amp->grad_scaler().get_scale(), 32);
        }
        run.expect_equal_finite_weights();
      });
    }
  }
}

TEST(DistributedTrainer, AStopOfOneRankStopsAllInTheSameIteration) {
  const auto results = run_ranks(3, [](Group& group) {
    const LogCapture quiet([](LogLevel, std::string_view) {});
    auto net = std::make_shared<Net>();
    auto model = create_ddp_model(model_of(net), borrow(group));
    torch::optim::SGD optimizer(model->parameters(), 0.1);
    SimpleTrainer* running = nullptr;
    const auto source = source_of([&](int i) {
      if (i == 3 && group.get_rank() == 1) running->request_stop("enough");
      return shard(group.get_rank());
    });
    SimpleTrainer trainer(model, *source, optimizer, {.trainer = {.group = borrow(group)}});
    running = &trainer;
    trainer.train(0, 10);
    return std::to_string(trainer.iter());
  });
  for (const RankResult& result : results) EXPECT_EQ(result.said, "4");
}

TEST(DistributedTrainer, ARankLostInTheMiddleOfAStepIsNamed) {
  for (int signal : {SIGKILL, SIGSTOP}) {
    Bell bell;
    const auto body = [signal, &bell](Group& group) -> std::string {
      const LogCapture quiet([](LogLevel, std::string_view) {});
      auto net = std::make_shared<Net>();
      auto inner = make_model(net, [&](auto& module, const Batch& batch) -> LossDict {
        static int calls = 0;
        const at::Tensor loss = module->forward(batch.tensor("x"), true).square().mean();
        if (++calls != 3) return {{"loss", loss}};
        if (group.get_rank() == 1) {
          bell.wait_for(2);
          loss.register_hook([signal](const at::Tensor&) { kill(getpid(), signal); });
        } else {
          bell.ring();
        }
        return {{"loss", loss}};
      });
      auto model = create_ddp_model(inner, borrow(group));
      torch::optim::SGD optimizer(model->parameters(), 0.1);
      const auto source = source_of([&](int) { return shard(group.get_rank()); });
      SimpleTrainer trainer(model, *source, optimizer, {.trainer = {.group = borrow(group)}});
      try {
        trainer.train(0, 10);
      } catch (const CommError& error) {
        return error.what();
      }
      return "no CommError";
    };
    const auto results = run_ranks(3, body, {.timeout = std::chrono::milliseconds(2000)});
    for (int rank : {0, 2}) {
      const RankResult& result = results[static_cast<std::size_t>(rank)];
      EXPECT_TRUE(contains(result.said, "backward: rank 1 did not arrive")) << result.said;
    }
  }
}

}  // namespace
}  // namespace treadle

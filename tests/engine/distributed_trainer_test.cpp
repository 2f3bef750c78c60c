#include "tests/engine/distributed_net.hpp"
#include "tests/support/bell.hpp"

#include <treadle/base/errors.hpp>
#include <treadle/base/log.hpp>
#include <treadle/engine/distributed_model.hpp>
#include <treadle/engine/simple_trainer.hpp>

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

TEST(DistributedTrainer, OneRanksLossThatIsNotFiniteMakesAllRanksSkip) {
  for (int size : kSizes) {
    expect_ranks(size, [size](Group& group) {
      const LogCapture quiet([](LogLevel, std::string_view) {});
      auto net = std::make_shared<Net>();
      fill(*net, 1);
      auto model = create_ddp_model(model_of(net), borrow(group));
      torch::optim::SGD optimizer(model->parameters(), 0.1);
      const int victim = size - 1;
      const auto source = source_of([&](int i) {
        Batch batch = shard(group.get_rank());
        if (i == 1 && group.get_rank() == victim) {
          return Batch(
              Dict{{"x", batch.tensor("x")}, {"y", at::full_like(batch.tensor("y"), std::numeric_limits<double>::quiet_NaN())}});
        }
        return batch;
      });
      SimpleTrainer trainer(model, *source, optimizer,
                            {.non_finite = {.action = NonFiniteAction::skip}, .trainer = {.group = borrow(group)}});
      trainer.train(0, 3);
      EXPECT_EQ(trainer.storage().history("skipped_steps").latest(), 1);
      // The weights stay equal and finite.
      const List all = group.all_gather(net->first->weight.detach());
      for (const Value& weight : all) EXPECT_TRUE(identical(weight, all[0]));
      EXPECT_TRUE(net->first->weight.isfinite().all().item<bool>());
    });
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

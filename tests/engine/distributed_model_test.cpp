#include "tests/support/ranks.hpp"

#include <treadle/base/errors.hpp>
#include <treadle/base/log.hpp>
#include <treadle/base/module_state.hpp>
#include <treadle/data/batch_source.hpp>
#include <treadle/engine/distributed_model.hpp>
#include <treadle/engine/simple_trainer.hpp>
#include <treadle/models/make_model.hpp>
#include <treadle/models/sync_batch_norm.hpp>

#include <ATen/ops/arange.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <torch/nn/modules/linear.h>
#include <torch/optim/sgd.h>
#include <unistd.h>

#include <cmath>
#include <limits>
#include <string>
#include <vector>

namespace treadle {
namespace {

constexpr int kSizes[] = {2, 3, 4};
constexpr std::int64_t kFeatures = 7, kShard = 5;

bool contains(const std::string& text, const std::string& part) { return text.find(part) != std::string::npos; }

/// Two layers, a buffer, and a parameter that only some batches use.
struct Net final : torch::nn::Module {
  explicit Net(std::int64_t hidden = 11) {
    first = register_module("first", torch::nn::Linear(kFeatures, hidden));
    second = register_module("second", torch::nn::Linear(hidden, 3));
    extra = register_parameter("extra", torch::ones({3}));
    seen = register_buffer("seen", torch::zeros({1}));
  }
  at::Tensor forward(const at::Tensor& x, bool use_extra) {
    at::Tensor y = second(torch::tanh(first(x)));
    return use_extra ? y * extra : y;
  }
  torch::nn::Linear first{nullptr}, second{nullptr};
  torch::Tensor extra, seen;
};

/// Numbers that depend on nothing but their place.
at::Tensor numbers(at::IntArrayRef sizes, double phase) {
  std::int64_t count = 1;
  for (std::int64_t size : sizes) count *= size;
  return (at::arange(count, at::kDouble) * 0.7 + phase).sin().to(at::kFloat).view(sizes);
}

void fill(torch::nn::Module& net, double phase) {
  const at::NoGradGuard no_grad;
  for (const NamedTensor& parameter : treadle::named_parameters(net)) {
    parameter.tensor.copy_(numbers(parameter.tensor.sizes(), phase));
    phase += 1;
  }
}

std::shared_ptr<Model> model_of(const std::shared_ptr<Net>& net) {
  return make_model(net, [](auto& module, const Batch& batch) -> LossDict {
    const bool use_extra = batch.fields().find("no_extra") == nullptr;
    const at::Tensor error = module->forward(batch.tensor("x"), use_extra) - batch.tensor("y");
    return {{"square", error.square().mean()}, {"tiny", error.mean() * 0.1}};
  });
}

/// The samples of `ranks` ranks from the first one on.
Batch shard(int first, int ranks = 1, bool use_extra = true) {
  const at::Tensor x = numbers({100 * kShard, kFeatures}, 0.3).slice(0, first * kShard, (first + ranks) * kShard);
  const at::Tensor y = numbers({100 * kShard, 3}, 2.1).slice(0, first * kShard, (first + ranks) * kShard);
  Dict fields{{"x", x}, {"y", y}};
  if (!use_extra) fields.set("no_extra", at::zeros({1}));
  return Batch(fields);
}

at::Tensor sum(const LossDict& losses) {
  at::Tensor total = losses.front().second;
  for (std::size_t i = 1; i < losses.size(); ++i) total = total + losses[i].second;
  return total;
}

/// Name → gradient after one backward pass of a process alone.
Dict gradients_alone(const Batch& batch) {
  auto net = std::make_shared<Net>();
  fill(*net, 1);
  sum(model_of(net)->losses(batch)).backward();
  Dict gradients;
  for (const NamedTensor& parameter : treadle::named_parameters(*net)) gradients.set(parameter.name, parameter.tensor.grad());
  return gradients;
}

void expect_gradients(const torch::nn::Module& net, const Dict& expected, double tolerance, double factor = 1) {
  for (const NamedTensor& parameter : treadle::named_parameters(net)) {
    const at::Tensor wanted = expected.at(parameter.name).as_tensor() * factor;
    ASSERT_TRUE(parameter.tensor.grad().defined()) << parameter.name;
    const double error = (parameter.tensor.grad() - wanted).abs().max().item<double>() / wanted.abs().max().item<double>();
    EXPECT_LE(error, tolerance) << parameter.name;
  }
}

std::shared_ptr<Group> borrow(Group& group) { return {std::shared_ptr<Group>(), &group}; }

TEST(DistributedModel, GradientsAreThoseOfTheWholeBatch) {
  for (int size : kSizes) {
    expect_ranks(size, [size](Group& group) {
      for (double bucket_mb : {25.0, 0.0001}) {
        auto net = std::make_shared<Net>();
        fill(*net, group.get_rank() == 0 ? 1 : 50);  // the ranks start with other weights
        DistributedModel model(model_of(net), borrow(group),
                               {.gradients = {.bucket_cap_mb = bucket_mb, .first_bucket_cap_mb = bucket_mb}});
        for (int step = 0; step < 3; ++step) {
          for (const at::Tensor& parameter : net->parameters()) parameter.mutable_grad() = at::Tensor();
          model.backward(sum(model.losses(shard(step * size + group.get_rank()))));
          expect_gradients(*net, gradients_alone(shard(step * size, size)), 1e-6);
        }
      }
    });
  }
}

TEST(DistributedModel, NamesTensorsAndModesAreThoseOfTheModel) {
  expect_ranks(2, [](Group& group) {
    auto net = std::make_shared<Net>();
    net->first->eval();
    const auto inner = model_of(net);
    const auto model = create_ddp_model(inner, borrow(group));
    EXPECT_NE(model, inner);
    EXPECT_TRUE(identical(module_state_dict(*model), module_state_dict(*net)));
    EXPECT_TRUE(module_state_dict(*model).at("first.weight").as_tensor().is_alias_of(net->first->weight));
    EXPECT_FALSE(net->first->is_training());
    model->eval();
    EXPECT_FALSE(net->second->is_training());
    // Without gradients nothing is prepared, on one rank alone as well.
    const at::NoGradGuard no_grad;
    if (group.get_rank() == 0) {
      EXPECT_EQ(model->losses(shard(0)).size(), 2U);
    }
  });
  const auto alone = model_of(std::make_shared<Net>());
  EXPECT_EQ(create_ddp_model(alone, make_single_process_group()), alone);
  EXPECT_THROW(DistributedModel(alone, make_single_process_group()), Error);
}

TEST(DistributedModel, AnotherModelOrOtherOptionsAreNamedOnEveryRank) {
  const auto run = [](const std::function<void(Group&)>& construct, const std::string& message) {
    const auto results = run_ranks(3, [&](Group& group) -> std::string {
      try {
        construct(group);
      } catch (const CommError& error) {
        EXPECT_FALSE(group.is_broken());
        return error.what();
      }
      return "no CommError";
    });
    for (const RankResult& result : results) EXPECT_TRUE(contains(result.said, message)) << result.said;
  };
  run([](Group& group) { DistributedModel(model_of(std::make_shared<Net>(group.get_rank() == 2 ? 12 : 11)), borrow(group)); },
      "rank 2 has another model than rank 0: the parameter \"first.weight\" is Float of shape [12, 7] there and Float of shape "
      "[11, 7]");
  run(
      [](Group& group) {
        auto net = std::make_shared<Net>();
        if (group.get_rank() == 1) net->register_parameter("more", torch::ones({1}));
        DistributedModel(model_of(net), borrow(group));
      },
      "the parameter \"more\" is missing on rank 0");
  run(
      [](Group& group) {
        DistributedModel(model_of(std::make_shared<Net>()), borrow(group),
                         {.gradients = {.bucket_cap_mb = group.get_rank() == 1 ? 1.0 : 2.0}});
      },
      "gradients are reduced with buckets of 1 MiB");
}

TEST(DistributedModel, UnusedParametersAreNamedOrSought) {
  expect_ranks(2, [](Group& group) {
    auto net = std::make_shared<Net>();
    fill(*net, 1);
    DistributedModel model(model_of(net), borrow(group));
    try {
      model.backward(sum(model.losses(shard(group.get_rank(), 1, /*use_extra=*/false))));
      ADD_FAILURE() << "no error";
    } catch (const Error& error) {
      EXPECT_TRUE(contains(error.what(), "took no part in the losses: \"extra\"; set find_unused_parameters")) << error.what();
    }
  });
  expect_ranks(2, [](Group& group) {
    const bool rank0 = group.get_rank() == 0;
    auto net = std::make_shared<Net>();
    fill(*net, 1);
    DistributedModel model(model_of(net), borrow(group), {.gradients = {.find_unused_parameters = true}});
    // Rank 0 alone uses it: the average is over both.
    model.backward(sum(model.losses(shard(group.get_rank(), 1, rank0))));
    const at::Tensor alone = gradients_alone(shard(0)).at("extra").as_tensor();
    EXPECT_LE((net->extra.grad() - alone / 2).abs().max().item<double>(), 1e-6 * alone.abs().max().item<double>());
    // Nobody does: it stays without a gradient.
    for (const at::Tensor& parameter : net->parameters()) parameter.mutable_grad() = at::Tensor();
    model.backward(sum(model.losses(shard(group.get_rank(), 1, false))));
    EXPECT_FALSE(net->extra.grad().defined());
    EXPECT_TRUE(net->first->weight.grad().defined());
  });
}

TEST(DistributedModel, HooksSeeTheSameBucketsInEveryStep) {
  expect_ranks(3, [](Group& group) {
    std::vector<std::string> trace;
    const GradientHook hook = [&](const GradientBucket& bucket) -> GradientMessage {
      std::string line = std::to_string(bucket.index) + (bucket.is_last ? " last" : "");
      for (const at::Tensor& parameter : bucket.parameters)
        line += " " + std::to_string(reinterpret_cast<std::uintptr_t>(parameter.data_ptr()));
      trace.push_back(line);
      EXPECT_EQ(bucket.world_size, 3);
      return {bucket.gradients.clone(), [](const at::Tensor& sum) { return sum * (2.0 / 3); }};
    };
    auto net = std::make_shared<Net>();
    fill(*net, 1);
    DistributedModel model(model_of(net), borrow(group),
                           {.gradients = {.bucket_cap_mb = 0.0001, .first_bucket_cap_mb = 0.0001, .hook = hook}});
    std::vector<std::vector<std::string>> steps;
    for (int step = 0; step < 3; ++step) {
      for (const at::Tensor& parameter : net->parameters()) parameter.mutable_grad() = at::Tensor();
      trace.clear();
      model.backward(sum(model.losses(shard(group.get_rank()))));
      steps.push_back(trace);
      expect_gradients(*net, gradients_alone(shard(0, 3)), 1e-6, /*factor=*/2);
    }
    EXPECT_GT(steps[0].size(), 2U);
    EXPECT_TRUE(contains(steps[0].back(), " last"));
    EXPECT_EQ(steps[1], steps[0]);
    EXPECT_EQ(steps[2], steps[0]);
  });
}

TEST(DistributedModel, CompressedGradientsAreCloseAndNotExact) {
  for (auto [compression, precision] : {std::pair{GradientCompression::float16, std::pow(2.0, -10)},
                                        std::pair{GradientCompression::bfloat16, std::pow(2.0, -7)}}) {
    expect_ranks(2, [compression, precision](Group& group) {
      auto net = std::make_shared<Net>();
      fill(*net, 1);
      DistributedModel model(model_of(net), borrow(group), {.gradients = {.compression = compression}});
      model.backward(sum(model.losses(shard(group.get_rank()))));
      const Dict exact = gradients_alone(shard(0, 2));
      expect_gradients(*net, exact, 2 * precision);
      const at::Tensor error = (net->first->weight.grad() - exact.at("first.weight").as_tensor()).abs().max();
      EXPECT_GT(error.item<double>(), precision * 1e-3);
    });
  }
  GradientOptions both{.compression = GradientCompression::float16,
                       .hook = [](const GradientBucket&) { return GradientMessage(); }};
  EXPECT_THROW(validate(both), ConfigError);
  EXPECT_THROW(validate(GradientOptions{.bucket_cap_mb = 0}), ConfigError);
  EXPECT_THROW(validate(GradientOptions{.first_bucket_cap_mb = -1}), ConfigError);
}

TEST(DistributedModel, BuffersFollowRankZeroWhenAsked) {
  for (bool follow : {false, true}) {
    expect_ranks(3, [follow](Group& group) {
      auto net = std::make_shared<Net>();
      net->seen.fill_(group.get_rank() + 5.0);
      DistributedModel model(model_of(net), borrow(group), {.broadcast_buffers = follow});
      EXPECT_EQ(net->seen.item<double>(), 5);  // at the start in any case
      net->seen.fill_(group.get_rank() + 7.0);
      model.backward(sum(model.losses(shard(group.get_rank()))));
      EXPECT_EQ(net->seen.item<double>(), follow ? 7 : group.get_rank() + 7);
    });
  }
}

std::unique_ptr<BatchSource> source_of(std::function<Batch(int)> batch) {
  auto next = [i = 0, batch = std::move(batch)]() mutable -> std::optional<Batch> { return batch(i++); };
  return make_batch_source(std::function<std::optional<Batch>()>(next));
}

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
    const auto body = [signal](Group& group) -> std::string {
      const LogCapture quiet([](LogLevel, std::string_view) {});
      auto net = std::make_shared<Net>();
      auto inner = make_model(net, [&](auto& module, const Batch& batch) -> LossDict {
        static int calls = 0;
        const at::Tensor loss = module->forward(batch.tensor("x"), true).square().mean();
        if (++calls == 3 && group.get_rank() == 1) loss.register_hook([signal](const at::Tensor&) { kill(getpid(), signal); });
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
      EXPECT_LT(result.seconds, 20);
    }
  }
}

TEST(SyncBatchNorm, IsBatchNormOfTheWholeBatch) {
  for (int size : kSizes) {
    expect_ranks(size, [size](Group& group) {
      const auto options = torch::nn::BatchNorm2dOptions(4).momentum(0.3);
      SyncBatchNorm sync(options, borrow(group));
      torch::nn::BatchNorm2d alone(options);
      fill(*sync, 2);
      fill(*alone, 2);
      const auto whole = [&](double phase) { return numbers({size * 3, 4, 5, 2}, phase) * 3 + 1; };
      const auto own = [&](const at::Tensor& all) { return all.slice(0, group.get_rank() * 3, group.get_rank() * 3 + 3); };
      for (int step = 0; step < 2; ++step) {
        at::Tensor x_all = whole(step).requires_grad_(), x = own(whole(step)).clone().requires_grad_();
        const at::Tensor weights = whole(7.5);
        const at::Tensor y_all = alone(x_all), y = sync(x);
        EXPECT_LE((y - own(y_all)).abs().max().item<double>(), 2e-6 * y_all.abs().max().item<double>());
        alone->zero_grad();
        sync->zero_grad();
        (y_all * weights).sum().backward();
        (y * own(weights)).sum().backward();
        EXPECT_LE((x.grad() - own(x_all.grad())).abs().max().item<double>(), 5e-6 * x_all.grad().abs().max().item<double>());
        const List parts = group.all_gather(sync->weight.grad());
        at::Tensor sum = at::zeros_like(alone->weight);
        for (const Value& part : parts) sum += part.as_tensor();
        EXPECT_LE((sum - alone->weight.grad()).abs().max().item<double>(), 5e-6 * sum.abs().max().item<double>());
      }
      EXPECT_LE((sync->running_mean - alone->running_mean).abs().max().item<double>(), 1e-6);
      EXPECT_LE((sync->running_var - alone->running_var).abs().max().item<double>(), 1e-5);
      EXPECT_EQ(sync->num_batches_tracked.item<int>(), 2);
      sync->eval();
      alone->eval();
      EXPECT_LE((sync(whole(9)) - alone(whole(9))).abs().max().item<double>(), 1e-5);
    });
  }
  SyncBatchNorm single(torch::nn::BatchNorm2dOptions(4), make_single_process_group());
  torch::nn::BatchNorm2d plain(4);
  EXPECT_TRUE(single(numbers({3, 4, 2, 2}, 0)).equal(plain(numbers({3, 4, 2, 2}, 0))));
  EXPECT_THROW(SyncBatchNorm(torch::nn::BatchNorm2dOptions(4), nullptr), Error);
}

}  // namespace
}  // namespace treadle

#include "tests/engine/distributed_net.hpp"

#include <treadle/base/errors.hpp>
#include <treadle/engine/distributed_model.hpp>
#include <treadle/solver/optimizer_state.hpp>

#include <gtest/gtest.h>
#include <torch/optim/sgd.h>

#include <cmath>
#include <string>
#include <vector>

namespace treadle {
namespace {

void expect_gradients(const torch::nn::Module& net, const Dict& expected, double tolerance, double factor = 1) {
  for (const NamedTensor& parameter : treadle::named_parameters(net)) {
    const at::Tensor wanted = expected.at(parameter.name).as_tensor() * factor;
    ASSERT_TRUE(parameter.tensor.grad().defined()) << parameter.name;
    const double error = (parameter.tensor.grad() - wanted).abs().max().item<double>() / wanted.abs().max().item<double>();
    EXPECT_LE(error, tolerance) << parameter.name;
  }
}

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
    // Without gradients nothing is prepared, on one rank alone as well, and the next step finds all as it was.
    if (group.get_rank() == 0) {
      const at::NoGradGuard no_grad;
      EXPECT_EQ(model->losses(shard(0)).size(), 2U);
    }
    sum(model->losses(shard(group.get_rank()))).backward();
  });
  const auto alone = model_of(std::make_shared<Net>());
  EXPECT_EQ(create_ddp_model(alone, make_single_process_group()), alone);
  EXPECT_THROW(DistributedModel(alone, make_single_process_group()), Error);
}

TEST(DistributedModel, SharedParametersAreReducedOnceAndFrozenOnesNotAtAll) {
  expect_ranks(2, [](Group& group) {
    auto net = std::make_shared<Net>();
    fill(*net, 1);
    net->register_parameter("twin", net->first->weight);
    net->extra.set_requires_grad(false);
    DistributedModel model(model_of(net), borrow(group));
    for (int step = 0; step < 2; ++step) {
      for (const at::Tensor& parameter : net->parameters()) parameter.mutable_grad() = at::Tensor();
      model.backward(sum(model.losses(shard(2 * step + group.get_rank()))));
      Dict expected = gradients_alone(shard(2 * step, 2));
      const at::Tensor wanted = expected.at("first.weight").as_tensor();
      EXPECT_LE((net->first->weight.grad() - wanted).abs().max().item<double>(), 1e-6 * wanted.abs().max().item<double>());
      EXPECT_FALSE(net->extra.grad().defined());
    }
  });
}

TEST(DistributedModel, GradientsMayLieInTheMemoryTheyTravelIn) {
  expect_ranks(3, [](Group& group) {
    for (const bool view : {false, true}) {
      auto net = std::make_shared<Net>();
      fill(*net, 1);
      DistributedModel model(model_of(net), borrow(group), {.gradients = {.gradient_as_bucket_view = view}});
      torch::optim::SGD sgd(net->parameters(), 0.0);
      for (int step = 0; step < 3; ++step) {
        zero_grad(sgd);
        // Two backward passes make one step: what the first one left on this rank is part of the sum.
        for (const bool last : {false, true}) {
          model.set_gradient_sync(last);
          model.backward(sum(model.losses(shard(3 * step + group.get_rank()))) / 2);
        }
        expect_gradients(*net, gradients_alone(shard(3 * step, 3)), 1e-6);
      }
      const auto memory = [&](const at::Tensor& parameter) { return parameter.grad().storage().unsafeGetStorageImpl(); };
      EXPECT_EQ(memory(net->first->weight) == memory(net->first->bias), view);
    }
  });
}

TEST(DistributedModel, GoesOnWithTheGroupThatWasRebuilt) {
  expect_ranks(2, [](Group& group) {
    auto net = std::make_shared<Net>();
    fill(*net, 1);
    DistributedModel model(model_of(net), borrow(group));
    model.backward(sum(model.losses(shard(group.get_rank()))));
    group.synchronize();
    group.rebuild();
    if (group.get_rank() == 1) fill(*net, 50);  // as in a process that has come in place of another
    for (const at::Tensor& parameter : net->parameters()) parameter.mutable_grad() = at::Tensor();
    model.backward(sum(model.losses(shard(2 + group.get_rank()))));
    expect_gradients(*net, gradients_alone(shard(2, 2)), 1e-6);
  });
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
      if (group.get_rank() == 0) {  // an evaluation, in which each rank has batches of its own
        const at::NoGradGuard no_grad;
        model.losses(shard(0));
      }
      group.synchronize();
      model.backward(sum(model.losses(shard(group.get_rank()))));
      EXPECT_EQ(net->seen.item<double>(), follow ? 7 : group.get_rank() + 7);
    });
  }
}

}  // namespace
}  // namespace treadle

#include <treadle/base/errors.hpp>
#include <treadle/comm.hpp>

#include <ATen/ops/full.h>
#include <ATen/ops/ones.h>
#include <gtest/gtest.h>

namespace treadle {
namespace {

TEST(SingleProcessGroup, IsAloneAndMain) {
  const auto group = make_single_process_group();
  EXPECT_EQ(group->get_rank(), 0);
  EXPECT_EQ(group->get_world_size(), 1);
  EXPECT_EQ(group->get_local_rank(), 0);
  EXPECT_EQ(group->get_local_size(), 1);
  EXPECT_TRUE(group->is_main_process());
}

TEST(SingleProcessGroup, CollectivesAreIdentities) {
  const auto group = make_single_process_group();
  const Value value = Dict{{"a", 1}};
  group->synchronize();
  EXPECT_TRUE(identical(group->all_gather(value), List{value}));
  EXPECT_TRUE(identical(group->gather(value), List{value}));
  EXPECT_TRUE(identical(group->broadcast(value), value));
  EXPECT_TRUE(identical(group->reduce_dict({{"loss", 0.5}}), Dict{{"loss", 0.5}}));
  for (const Value& unusable : {Value("fast"), Value(at::ones({3})), Value()}) {
    EXPECT_THROW(group->reduce_dict({{"loss", 1.0}, {"speed", unusable}}), Error);
  }
  EXPECT_NE(group->shared_random_seed(), group->shared_random_seed());
  EXPECT_THROW(group->gather(value, 1), CommError);
  EXPECT_THROW(group->broadcast(value, 1), CommError);
}

// A program that writes into what it got must not change what it gave only where it is launched alone.
TEST(SingleProcessGroup, ResultsShareNothingAndNeedNoGradient) {
  const auto group = make_single_process_group();
  const at::Tensor own = at::ones({2}).requires_grad_();
  const Value value = Dict{{"a", own}};
  const at::Tensor one = at::ones({}).requires_grad_();
  const std::vector<std::pair<at::Tensor, at::Tensor>> pairs = {
      {own, group->all_gather(value)[0].as_dict().at("a").as_tensor()},
      {own, group->gather(value)[0].as_dict().at("a").as_tensor()},
      {own, group->broadcast(value).as_dict().at("a").as_tensor()},
      {one, group->reduce_dict({{"a", one}}).at("a").as_tensor()},
  };
  for (const auto& [given, got] : pairs) {
    EXPECT_FALSE(got.requires_grad());
    EXPECT_TRUE(got.equal(given.detach()));
    got.fill_(7);
    EXPECT_TRUE(given.detach().eq(1).all().item<bool>());
  }
}

TEST(SingleProcessGroup, RefusesTheReducerThatSeveralRanksWouldRefuse) {
  const auto group = make_single_process_group();
  const std::vector<NamedTensor> trained = {{"frozen", at::ones({1})}, {"weight", at::ones({1}).requires_grad_()}};
  EXPECT_EQ(group->make_gradient_reducer(trained, {}), nullptr);
  EXPECT_THROW(group->make_gradient_reducer(trained, {.bucket_cap_mb = 0}), ConfigError);
  EXPECT_THROW(group->make_gradient_reducer({trained[0]}, {}), CommError);
}

// A program must not get other types when it is launched with more processes.
TEST(SingleProcessGroup, ReducesToTheTypesOfManyProcesses) {
  const auto group = make_single_process_group();
  const Dict own{{"int", 3}, {"long", at::full({}, 3, at::kLong)}, {"half", at::full({1}, 0.5, at::kHalf)}};
  EXPECT_TRUE(identical(group->reduce_dict(own),
                        Dict{{"int", 3.0}, {"long", at::full({}, 3, at::kDouble)}, {"half", at::full({1}, 0.5, at::kHalf)}}));
  EXPECT_TRUE(identical(group->reduce_dict(own, false).at("long"), at::full({}, 3, at::kLong)));
}

TEST(SingleProcessGroup, TheStepExchangeGivesBackTheRowAndIsOneAtATime) {
  const auto group = make_single_process_group();
  const std::vector<double> row = {1, 2, 3};
  EXPECT_THROW(group->wait_step_exchange(), CommError);
  group->start_step_exchange(row);
  EXPECT_THROW(group->start_step_exchange(row), CommError);
  EXPECT_EQ(group->wait_step_exchange(), StepRows{row});
  EXPECT_THROW(group->wait_step_exchange(), CommError);
}

TEST(SingleProcessGroup, ABrokenGroupRefusesEveryCollectiveUntilItIsRebuilt) {
  const auto group = make_single_process_group();
  group->mark_broken("first reason");
  group->mark_broken("second reason");
  EXPECT_TRUE(group->is_broken());
  try {
    group->synchronize();
    FAIL();
  } catch (const CommError& error) {
    EXPECT_STREQ(error.what(), "rank 0, synchronize: the group is broken: first reason");
  }
  const std::vector<double> row = {1};
  EXPECT_THROW(group->all_gather(1), CommError);
  EXPECT_THROW(group->gather(1), CommError);
  EXPECT_THROW(group->broadcast(1), CommError);
  EXPECT_THROW(group->shared_random_seed(), CommError);
  EXPECT_THROW(group->reduce_dict({}), CommError);
  EXPECT_THROW(group->start_step_exchange(row), CommError);
  EXPECT_THROW(group->wait_step_exchange(), CommError);
  group->rebuild();
  EXPECT_EQ(group->generation(), 1);
  EXPECT_FALSE(group->is_broken());
  group->synchronize();
}

TEST(SingleProcessGroup, TheLocalGroupIsOneOfItsGenerationAlone) {
  const auto group = make_single_process_group();
  create_local_process_group(*group, 1);
  EXPECT_EQ(get_local_process_group(*group)->get_world_size(), 1);
  group->rebuild();
  EXPECT_THROW(get_local_process_group(*group), CommError);
}

}  // namespace
}  // namespace treadle

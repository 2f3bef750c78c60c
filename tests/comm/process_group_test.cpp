#include "tests/comm/comm_errors.hpp"
#include "tests/support/ranks.hpp"

#include <comm/local_place.hpp>
#include <treadle/base/errors.hpp>
#include <treadle/base/rng.hpp>
#include <treadle/comm/comm.hpp>
#include <treadle/comm/process_group.hpp>

#include <ATen/ops/arange.h>
#include <ATen/ops/full.h>
#include <ATen/ops/ones.h>
#include <ATen/ops/tensor.h>
#include <ATen/ops/zeros.h>
#include <gtest/gtest.h>
#include <signal.h>

#include <set>
#include <string>

namespace treadle {
namespace {

constexpr int kSizes[] = {2, 3, 4};

/// A value of every type that is different on every rank; longer than a block of the exchange when `length` is large.
Value sample(int rank, std::size_t length) {
  return Dict{{"rank", rank},
              {"text", std::string(length, static_cast<char>('a' + rank))},
              {"bytes", Bytes{std::string(3, '\0')}},
              {7, List{nullptr, true, 0.5 * rank, Tuple{rank, "x"}}},
              {"tensor", at::full({2, 3}, rank, at::kHalf)},
              {"empty", at::zeros({0, 4}, at::kLong)}};
}

TEST(ProcessGroup, TellsWhoIsWho) {
  for (int size : kSizes) {
    expect_ranks(size, [size](Group& group) {
      EXPECT_EQ(get_world_size(group), size);
      EXPECT_EQ(get_local_size(group), size);
      EXPECT_EQ(get_local_rank(group), get_rank(group));
      EXPECT_EQ(is_main_process(group), group.get_rank() == 0);
      EXPECT_EQ(group.generation(), 0);
      EXPECT_EQ(group.all_gather(group.get_rank()).at(1).as_int(), 1);
    });
  }
}

TEST(ProcessGroup, MeetsInAStoreOverTcp) {
  expect_ranks(3, [](Group& group) { EXPECT_EQ(group.all_gather(group.get_rank()).at(2).as_int(), 2); }, {.tcp = true});
}

TEST(ProcessGroup, AllGathersValuesOfAnySize) {
  for (int size : kSizes) {
    expect_ranks(size, [size](Group& group) {
      // All short; all long; one long among short; one very long among long.
      for (std::size_t mine : {std::size_t{10}, std::size_t{100'000}}) {
        for (std::size_t last : {std::size_t{10}, std::size_t{100'000}, std::size_t{3'000'000}}) {
          const auto length = [&](int rank) { return rank == size - 1 ? last : mine; };
          const List all = all_gather(sample(group.get_rank(), length(group.get_rank())), group);
          ASSERT_EQ(all.size(), static_cast<std::size_t>(size));
          for (int i = 0; i < size; ++i) EXPECT_TRUE(identical(all[static_cast<std::size_t>(i)], sample(i, length(i))));
        }
      }
    });
  }
}

TEST(ProcessGroup, GathersAtOneRankAlone) {
  for (int size : kSizes) {
    expect_ranks(size, [size](Group& group) {
      for (int destination = 0; destination < size; ++destination) {
        for (std::size_t unit : {std::size_t{1}, std::size_t{50'000}}) {
          const auto length = [&](int rank) { return unit * static_cast<std::size_t>(rank); };
          const List all = gather(sample(group.get_rank(), length(group.get_rank())), group, destination);
          ASSERT_EQ(all.size(), group.get_rank() == destination ? static_cast<std::size_t>(size) : 0);
          for (std::size_t i = 0; i < all.size(); ++i)
            EXPECT_TRUE(identical(all[i], sample(static_cast<int>(i), length(static_cast<int>(i)))));
        }
      }
    });
  }
}

TEST(ProcessGroup, BroadcastsFromAnyRank) {
  for (int size : kSizes) {
    expect_ranks(size, [size](Group& group) {
      for (int source = 0; source < size; ++source) {
        for (std::size_t length : {std::size_t{3}, std::size_t{200'000}})
          EXPECT_TRUE(identical(group.broadcast(sample(group.get_rank(), length), source), sample(source, length)));
      }
    });
  }
}

TEST(ProcessGroup, TensorsArriveDenseOnTheCpuAndShareNothing) {
  expect_ranks(2, [](Group& group) {
    at::Tensor own = at::arange(12, at::kFloat).view({3, 4}).t();
    own.set_requires_grad(true);
    const at::Tensor got = group.all_gather(own)[static_cast<std::size_t>(group.get_rank())].as_tensor();
    EXPECT_TRUE(got.is_contiguous());
    EXPECT_FALSE(got.requires_grad());
    EXPECT_TRUE(got.equal(own.detach()));
    EXPECT_FALSE(group.broadcast(own, group.get_rank() == 0 ? 0 : 0).as_tensor().is_alias_of(own));
  });
}

TEST(ProcessGroup, SharesASeedThatDiffersFromCallToCall) {
  expect_ranks(3, [](Group& group) {
    std::set<std::int64_t> seeds;
    for (int i = 0; i < 4; ++i) {
      const auto seed = static_cast<std::int64_t>(shared_random_seed(group));
      for (const Value& other : group.all_gather(seed)) EXPECT_EQ(other.as_int(), seed);
      seeds.insert(seed);
    }
    EXPECT_EQ(seeds.size(), 4U);
  });
}

TEST(ProcessGroup, TheSeedOfRankZeroSettlesTheSharedOnes) {
  expect_ranks(2, [](Group& group) {
    seed_everything(42 + static_cast<std::uint64_t>(group.get_rank()));
    EXPECT_EQ(shared_random_seed(group), 1608637542U);  // numpy.random.seed(42), randint(2**31)
    EXPECT_EQ(shared_random_seed(group), 1273642419U);
  });
}

TEST(ProcessGroup, ReducesNumbersByNameOnRankZero) {
  for (int size : kSizes) {
    expect_ranks(size, [size](Group& group) {
      const double rank = group.get_rank();
      const Dict own{{"a", rank}, {"b", at::tensor(2.0F * static_cast<float>(rank))}, {"c", 7}};
      const double sum = size * (size - 1) / 2.0;
      for (bool average : {true, false}) {
        const Dict result = reduce_dict(own, group, average);
        if (group.get_rank() != 0) {
          EXPECT_TRUE(identical(result, own));
          continue;
        }
        const double divisor = average ? size : 1;
        EXPECT_EQ(result.at("a").as_double(), sum / divisor);
        EXPECT_EQ(result.at("b").as_tensor().item<float>(), static_cast<float>(2 * sum / divisor));
        EXPECT_EQ(result.at("c").as_double(), 7 * size / divisor);
      }
      // More than a block holds.
      Dict many;
      for (int i = 0; i < 1000; ++i) many.set("number " + std::to_string(i), i + rank);
      const Dict result = group.reduce_dict(many, false);
      if (group.get_rank() != 0) return;
      EXPECT_EQ(result.at("number 999").as_double(), 999 * size + sum);
    });
  }
}

// In the dtype of whole numbers 1.5 would be 1, and 400 no byte.
TEST(ProcessGroup, ReducesTensorsOfWholeNumbersToOnesThatHoldTheResult) {
  expect_ranks(2, [](Group& group) {
    const Dict own{{"long", at::full({}, group.get_rank() + 1, at::kLong)},
                   {"byte", at::full({1}, 200, at::kByte)},
                   {"bool", at::full({}, true, at::kBool)}};
    const Dict average = group.reduce_dict(own, true), sum = group.reduce_dict(own, false);
    if (group.get_rank() != 0) {
      EXPECT_TRUE(identical(average, own) && identical(sum, own));
      return;
    }
    EXPECT_TRUE(identical(average, Dict{{"long", at::full({}, 1.5, at::kDouble)},
                                        {"byte", at::full({1}, 200, at::kDouble)},
                                        {"bool", at::full({}, 1, at::kDouble)}}))
        << describe(average);
    EXPECT_TRUE(identical(sum, Dict{{"long", at::full({}, 3, at::kLong)},
                                    {"byte", at::full({1}, 400, at::kLong)},
                                    {"bool", at::full({}, 2, at::kLong)}}))
        << describe(sum);
  });
}

TEST(ProcessGroup, RefusesToReduceDifferentNames) {
  const auto results = run_ranks(2, [](Group& group) {
    group.reduce_dict({{group.get_rank() == 0 ? "loss" : "lost", 1.0}}, true);
    return std::string("passed");
  });
  EXPECT_NE(results[0].said.find("rank 1 reduces other names"), std::string::npos) << results[0].said;
  EXPECT_EQ(results[1].said, "passed");
}

TEST(ProcessGroup, ExchangesTheRowsOfAStepWhileOtherCallsGoOn) {
  for (int size : kSizes) {
    expect_ranks(size, [size](Group& group) {
      for (std::size_t length : {std::size_t{0}, std::size_t{5}, std::size_t{5000}}) {
        const auto row = [&](int rank) { return std::vector<double>(length, rank + 0.25); };
        group.start_step_exchange(row(group.get_rank()));
        EXPECT_THROW(group.start_step_exchange(row(0)), CommError);
        EXPECT_EQ(group.all_gather(group.get_rank()).size(), static_cast<std::size_t>(size));
        const StepRows& rows = group.wait_step_exchange();
        ASSERT_EQ(rows.size(), static_cast<std::size_t>(size));
        for (int i = 0; i < size; ++i) EXPECT_EQ(rows[static_cast<std::size_t>(i)], row(i));
        EXPECT_THROW(group.wait_step_exchange(), CommError);
      }
    });
  }
}

TEST(ProcessGroup, MakesGroupsOfTheProcessesOfAMachine) {
  expect_ranks(4,
               [](Group& group) {
                 EXPECT_EQ(group.get_local_rank(), group.get_rank() % 2);
                 EXPECT_EQ(group.get_local_size(), 2);
                 EXPECT_THROW(get_local_process_group(group), CommError);
                 EXPECT_THROW(create_local_process_group(group, 3), CommError);
                 create_local_process_group(group, 2);
                 const auto check_local = [&] {
                   Group& local = *get_local_process_group(group);
                   EXPECT_EQ(local.get_world_size(), 2);
                   EXPECT_EQ(local.get_rank(), group.get_local_rank());
                   const List ranks = local.all_gather(group.get_rank());
                   EXPECT_EQ(ranks.at(0).as_int(), group.get_rank() / 2 * 2);
                   EXPECT_EQ(ranks.at(1).as_int(), group.get_rank() / 2 * 2 + 1);
                 };
                 check_local();
                 create_local_process_group(group, 2);  // again: they must not meet where the first did
                 check_local();
                 EXPECT_EQ(group.make_subgroup({group.get_rank()})->get_world_size(), 1);
                 // In another order, and of some ranks only.
                 if (group.get_rank() == 2) {
                   EXPECT_THROW(group.make_subgroup({3, 0}), CommError);
                 } else if (group.get_rank() != 1) {
                   const auto pair = group.make_subgroup({3, 0});
                   EXPECT_EQ(pair->all_gather(group.get_rank()).at(0).as_int(), 3);
                   EXPECT_EQ(pair->get_local_size(), 1);
                 }
                 synchronize(group);
               },
               {.local_size = 2});
}

/// Connects as process `local_ranks[rank]` of the `local_sizes[rank]` of a machine, and says where the group takes it to be.
std::string connect_placed(ConnectOptions options, const std::vector<int>& local_ranks, const std::vector<int>& local_sizes) {
  options.local_rank = local_ranks.at(static_cast<std::size_t>(options.rank));
  options.local_size = local_sizes.at(static_cast<std::size_t>(options.rank));
  try {
    const auto group = connect_group(options);
    return std::to_string(group->get_local_rank()) + " of " + std::to_string(group->get_local_size());
  } catch (const ConfigError& error) {
    return error.what();
  }
}

// As srun --distribution=cyclic and mpirun --map-by node place four on two machines.
TEST(ProcessGroup, RanksDealtOutToMachinesInTurnAreAllToldSo) {
  const auto body = [](const ConnectOptions& options) { return connect_placed(options, {0, 0, 1, 1}, {2, 2, 2, 2}); };
  for (const RankResult& result : run_processes(4, body, kNoWait)) {
    EXPECT_EQ(result.status, 0) << result.said;
    EXPECT_TRUE(contains(result.said,
                         "rank 1 has local rank 0 of 2: start them with srun --distribution=block, or mpirun "
                         "--map-by slot"))
        << result.said;
  }
}

TEST(ProcessGroup, MachinesMayHaveUnequalNumbersOfRanks) {
  const auto body = [](const ConnectOptions& options) { return connect_placed(options, {0, 0, 1}, {1, 2, 2}); };
  const auto results = run_processes(3, body, kNoWait);
  EXPECT_EQ(results[0].said, "0 of 1");
  EXPECT_EQ(results[1].said, "0 of 2");
  EXPECT_EQ(results[2].said, "1 of 2");
}

TEST(ProcessGroup, ARankOutOfPlaceIsFoundWhereverItStands) {
  EXPECT_FALSE(out_of_place({{0, 2}, {1, 2}, {0, 1}, {0, 2}, {1, 2}}));
  EXPECT_EQ(out_of_place({{0, 2}, {0, 2}, {1, 2}, {1, 2}}).value_or(9), 1u);
  EXPECT_EQ(out_of_place({{0, 1}, {0, 3}, {1, 3}, {1, 2}}).value_or(9), 3u);
  EXPECT_EQ(out_of_place({{0, 2}, {1, 2}, {0, 2}}).value_or(9), 2u) << "its machine has a second one, which is not there";
  EXPECT_TRUE(out_of_place(std::vector<LocalPlace>(2))) << "texts without places";
}

TEST(ProcessGroup, ASubgroupInAnyOrderKnowsWhoIsOnOneMachine) {
  expect_ranks(4,
               [](Group& group) {
                 const auto mixed = group.make_subgroup({0, 2, 1, 3});
                 EXPECT_EQ(mixed->get_local_rank(), group.get_local_rank());
                 EXPECT_EQ(mixed->get_local_size(), 2);
                 const auto turned = mixed->make_subgroup({3, 0, 1, 2});  // ranks 3, 0, 2, 1 of the first
                 EXPECT_EQ(turned->get_local_rank(), group.get_rank() == 0 || group.get_rank() == 3 ? 0 : 1);
                 EXPECT_EQ(turned->get_local_size(), 2);
                 synchronize(group);
               },
               {.local_size = 2});
}

TEST(ProcessGroup, AValueThatCannotBeSentIsAnErrorOnEveryRankAndBreaksNothing) {
  expect_ranks(3, [](Group& group) {
    Value value = group.get_rank() == 1 ? Value(at::zeros({2, 2}).to_sparse()) : Value(1);
    const auto refused = [&](const std::string& name, const auto& call, const std::string& reason = "only dense tensors") {
      try {
        call();
        ADD_FAILURE() << name << ": no error";
      } catch (const CommError& error) {
        ADD_FAILURE() << "the group is broken: " << error.what();
      } catch (const FormatError& error) {
        ADD_FAILURE() << "the reason is taken for a message: " << error.what();
      } catch (const Error& error) {
        EXPECT_NE(std::string(error.what()).find("rank 1, " + name + ": " + reason), std::string::npos) << error.what();
      }
    };
    refused("all_gather", [&] { group.all_gather(value); });
    refused("gather", [&] { group.gather(value, 2); });
    refused("broadcast", [&] { group.broadcast(value, 1); });
    for (const Value& unusable : {Value("fast"), Value(at::ones({3})), Value()}) {
      const Dict numbers{{"loss", 1.0}, {"speed", group.get_rank() == 1 ? unusable : Value(2)}};
      refused("reduce_dict", [&] { group.reduce_dict(numbers); }, "\"speed\" is no number: ");
    }
    EXPECT_EQ(group.all_gather(5).size(), 3U);
    EXPECT_THROW(group.gather(1, 3), CommError);
    EXPECT_THROW(group.broadcast(1, -1), CommError);
    EXPECT_FALSE(group.is_broken());
  });
}

TEST(ProcessGroup, SigpipeIsIgnoredUnlessTheProgramHandlesIt) {
  const auto handler = [](int) {};
  const auto body = [&](const ConnectOptions& options) -> std::string {
    struct sigaction now{};
    if (options.rank == 1) now.sa_handler = handler;
    sigaction(SIGPIPE, &now, nullptr);
    const auto group = connect_group(options);
    sigaction(SIGPIPE, nullptr, &now);
    EXPECT_EQ(now.sa_handler, options.rank == 1 ? handler : SIG_IGN);
    return "";
  };
  for (const RankResult& result : run_processes(2, body)) EXPECT_EQ(result.status, 0) << result.said;
}

TEST(ProcessGroup, ALimitMayBeTheLongestThereIs) {
  for (const bool tcp : {false, true}) {
    const auto body = [](const ConnectOptions& options) -> std::string {
      ConnectOptions patient = options;
      patient.timeout = patient.rebuild_wait = std::chrono::milliseconds::max();
      const auto group = connect_group(patient);
      EXPECT_EQ(group->all_gather(at::ones({5000})).size(), 2U);
      group->mark_broken("to begin anew");
      group->rebuild();
      EXPECT_EQ(group->all_gather(at::ones({5000})).size(), 2U);
      return "";
    };
    for (const RankResult& result : run_processes(2, body, {.tcp = tcp})) EXPECT_EQ(result.status, 0) << result.said;
  }
}

TEST(ProcessGroup, OptionsAreChecked) {
  const ConnectOptions good{.rank = 1, .world_size = 2, .local_rank = 1, .local_size = 2, .port = 5};
  EXPECT_NO_THROW(validate(good));
  const auto refuses = [&](auto change, const std::string& field) {
    ConnectOptions options = good;
    change(options);
    try {
      validate(options);
      ADD_FAILURE() << field << " was not refused";
    } catch (const ConfigError& error) {
      EXPECT_EQ(error.key(), "ConnectOptions." + field);
    }
  };
  refuses([](auto& o) { o.world_size = 0; }, "world_size");
  refuses([](auto& o) { o.rank = 2; }, "rank");
  refuses([](auto& o) { o.local_size = 3; }, "local_size");
  refuses([](auto& o) { o.local_rank = -1; }, "local_rank");
  refuses([](auto& o) { o.timeout = std::chrono::milliseconds(0); }, "timeout");
  refuses([](auto& o) { o.rebuild_wait = std::chrono::milliseconds(-1); }, "rebuild_wait");
  refuses([](auto& o) { o.port = 0; }, "port");
  EXPECT_EQ(connect_group({})->get_world_size(), 1);
}

}  // namespace
}  // namespace treadle

#include "tests/comm/comm_errors.hpp"
#include "tests/support/bell.hpp"
#include "tests/support/ranks.hpp"

#include <treadle/base/errors.hpp>
#include <treadle/comm/comm.hpp>
#include <treadle/comm/gradient_reducer.hpp>
#include <treadle/comm/process_group.hpp>

#include <ATen/ops/ones.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <unistd.h>

#include <functional>
#include <memory>
#include <string>
#include <thread>
#include <utility>
#include <vector>

namespace treadle {
namespace {

/// What is prepared while all ranks are there, and returns what is called when one is not.
using Operation = std::function<std::function<void()>(Group&)>;

template <class Call>
Operation unprepared(Call call) {
  return [call](Group& group) { return [call, &group] { call(group); }; };
}

at::Tensor some_numbers() { return at::ones({100'000}); }

std::unique_ptr<GradientReducer> make_reducer(Group& group) {
  return group.make_gradient_reducer({{"weight", at::ones({3}).requires_grad_()}}, {});
}

/// Every collective, by the name that errors give it.
std::vector<std::pair<std::string, Operation>> operations() {
  return {{"synchronize", unprepared([](Group& group) { group.synchronize(); })},
          {"all_gather", unprepared([](Group& group) { group.all_gather(1); })},
          {"gather", unprepared([](Group& group) { group.gather(1, 0); })},
          {"gather", unprepared([](Group& group) { group.gather(some_numbers(), 0); })},
          {"broadcast", unprepared([](Group& group) { group.broadcast(1, 0); })},
          {"broadcast", unprepared([](Group& group) { group.broadcast(some_numbers(), 0); })},
          {"shared_random_seed", unprepared([](Group& group) { group.shared_random_seed(); })},
          {"reduce_dict", unprepared([](Group& group) { group.reduce_dict({{"x", 1.0}}); })},
          {"make_gradient_reducer", unprepared([](Group& group) { make_reducer(group); })},
          {"broadcast of tensors",
           [](Group& group) {
             return [reducer = std::shared_ptr(make_reducer(group))] { reducer->broadcast({some_numbers()}, 0); };
           }},
          {"step exchange", unprepared([](Group& group) {
             group.start_step_exchange({});
             group.wait_step_exchange();
           })}};
}

/// Those of some ranks alone, who have nobody but the time limit to tell them that one is lost.
std::vector<std::pair<std::string, Operation>> operations_of_some() {
  return {{"make_subgroup", unprepared([](Group& group) { group.make_subgroup({2, 1, 0}); })},
          {"make_subgroup", unprepared([](Group& group) { create_local_process_group(group, 3); })}};
}

constexpr int kVictim = 1;

/// A group of `size` that loses rank 1 before `operation`.
struct Loss {
  std::string name;  ///< of the operation, as errors give it
  Operation operation;
  int size = 3;
};

/// Waits for the operation of a group that loses its rank 1 to `signal`, and returns what it throws.
std::string outlive_victim(const ConnectOptions& options, const Loss& loss, int signal, Bell& bell) {
  const auto group = connect_group(options);
  group->synchronize();
  const std::function<void()> operation = loss.operation(*group);
  if (options.rank == kVictim) {
    bell.wait_for(loss.size - 1);
    kill(getpid(), signal);
  }
  bell.ring();
  const std::string error = comm_error_of(operation);
  EXPECT_TRUE(group->is_broken());
  // From then on nothing is waited for.
  EXPECT_TRUE(contains(comm_error_of([&] { group->synchronize(); }), "the group is broken"));
  return error;
}

/// A group for each loss, all at once, since they do nothing but wait: the others must all name rank 1 within the limit.
void expect_victims_are_named(const std::vector<Loss>& losses, int signal, std::chrono::milliseconds timeout) {
  std::vector<std::pair<std::size_t, int>> places;  // of each process: its group, and its rank there
  std::vector<std::unique_ptr<Bell>> bells;
  for (std::size_t i = 0; i < losses.size(); ++i) {
    for (int rank = 0; rank < losses[i].size; ++rank) places.emplace_back(i, rank);
    bells.push_back(std::make_unique<Bell>());
  }
  const auto body = [&](const ConnectOptions& options) {
    const auto [index, rank] = places[static_cast<std::size_t>(options.rank)];
    ConnectOptions own = options;
    own.rank = own.local_rank = rank;
    own.world_size = own.local_size = losses[index].size;
    own.file += "-" + std::to_string(index);
    return outlive_victim(own, losses[index], signal, *bells[index]);
  };
  const auto results =
      run_processes(static_cast<int>(places.size()), body, {.timeout = timeout, .hard_limit = kNoWait.hard_limit});
  for (std::size_t i = 0; i < results.size(); ++i) {
    const auto [index, rank] = places[i];
    const RankResult& result = results[i];
    if (rank == kVictim) {
      EXPECT_EQ(result.signal, signal);
      continue;
    }
    EXPECT_EQ(result.status, 0) << result.said << " (signal " << result.signal << ")";
    EXPECT_TRUE(contains(result.said, "rank 1 did not arrive")) << result.said;
    EXPECT_TRUE(contains(result.said, losses[index].name)) << result.said;
    EXPECT_TRUE(contains(result.said, " s of at most " + std::to_string(timeout.count() / 1000) + " s")) << result.said;
  }
}

std::vector<Loss> losses_in_every_operation() {
  std::vector<Loss> losses;
  for (const auto& [name, operation] : operations()) losses.push_back({name, operation});
  return losses;
}

TEST(Failure, AKilledRankIsNamedByTheOthers) {
  std::vector<Loss> losses = losses_in_every_operation();
  for (int size : {2, 4}) losses.push_back({"synchronize", unprepared([](Group& group) { group.synchronize(); }), size});
  expect_victims_are_named(losses, SIGKILL, kNoWait.timeout);
}

TEST(Failure, AStoppedRankIsNamedByTheOthersWhenTheTimeIsOver) {
  std::vector<Loss> losses = losses_in_every_operation();
  losses.push_back({"all_gather", unprepared([](Group& group) { group.all_gather(std::string(30'000'000, 'x')); })});
  for (const auto& [name, operation] : operations_of_some()) losses.push_back({name, operation});
  expect_victims_are_named(losses, SIGSTOP, std::chrono::seconds(3));
}

// It is the last of the subgroup, and rank 3, who is in none, is not missed.
TEST(Failure, AKilledRankOfASubgroupIsNamedByItsNumberInTheGroup) {
  Bell arrived, ended;
  const auto body = [&](Group& group) -> std::string {
    group.synchronize();
    if (group.get_rank() == kVictim) {
      arrived.wait_for(3);
      kill(getpid(), SIGKILL);
    }
    arrived.ring();
    if (group.get_rank() == 3) {
      ended.wait_for(2);
      return comm_error_of([&] { group.synchronize(); });
    }
    const std::string error = comm_error_of([&] { group.make_subgroup({0, 2, kVictim}); });
    EXPECT_TRUE(group.is_broken());
    ended.ring();
    return error;
  };
  const auto results = run_ranks(4, body, {.timeout = std::chrono::seconds(2), .hard_limit = kNoWait.hard_limit});
  for (int rank : {0, 2}) {
    const RankResult& result = results[static_cast<std::size_t>(rank)];
    EXPECT_EQ(result.status, 0) << result.said;
    EXPECT_TRUE(contains(result.said, "make_subgroup: rank 1 did not arrive (waited ")) << result.said;
  }
}

// Ranks that are lost when their own time is over leave the others, whose time may be longer, nothing to wait for.
TEST(Failure, TheFirstWhoseTimeIsOverEndsTheWaitOfAll) {
  Bell ended;
  const auto body = [&](const ConnectOptions& options) -> std::string {
    ConnectOptions own = options;
    if (options.rank == 0) own.timeout = std::chrono::seconds(3);
    const auto group = connect_group(own);
    group->synchronize();
    if (options.rank == kVictim) raise(SIGSTOP);
    const std::string error = comm_error_of([&] { group->synchronize(); });
    // The end of its process would close the connections of rank 0 too.
    options.rank == 0 ? ended.wait_for(1) : ended.ring();
    return error;
  };
  const auto results = run_processes(3, body, kNoWait);
  for (int rank : {0, 2}) {
    const RankResult& result = results[static_cast<std::size_t>(rank)];
    EXPECT_TRUE(contains(result.said, "rank 1 did not arrive")) << result.said;
  }
}

TEST(Failure, RanksThatCallDifferentThingsAllLearnWhoCalledWhat) {
  const auto body = [](Group& group) -> std::string {
    group.synchronize();
    return comm_error_of([&] {
      if (group.get_rank() == 2)
        group.all_gather(1);
      else
        group.synchronize();
    });
  };
  for (const RankResult& result : run_ranks(3, body, kNoWait)) {
    EXPECT_TRUE(contains(result.said,
                         "rank 0 called synchronize (call 2), rank 1 called synchronize (call 2), rank 2 called "
                         "all_gather (call 2)"))
        << result.said;
  }
}

TEST(Failure, DifferentArgumentsAreDifferentCalls) {
  const auto results = run_ranks(2, [](Group& group) { return comm_error_of([&] { group.broadcast(1, group.get_rank()); }); });
  for (const RankResult& result : results) {
    EXPECT_TRUE(contains(result.said, "rank 0 called broadcast (from rank 0, call 1), rank 1 called broadcast (from rank 1"))
        << result.said;
  }
}

TEST(Failure, CheckOrderComparesAtTheCallAndTellsTheCallsBefore) {
  const auto body = [](Group& group) -> std::string {
    group.all_gather(1);
    bool started = false;
    const std::string error = comm_error_of([&] {
      if (group.get_rank() == 0) {
        group.start_step_exchange({});
        started = true;
        group.wait_step_exchange();
      } else {
        group.synchronize();
      }
    });
    return (started ? "started; " : "refused; ") + error;
  };
  const auto plain = run_ranks(2, body);
  EXPECT_TRUE(contains(plain[0].said, "started; ")) << plain[0].said;
  EXPECT_FALSE(contains(plain[0].said, "before that")) << plain[0].said;
  const auto checked = run_ranks(2, body, {.check_order = true});
  EXPECT_TRUE(contains(checked[0].said, "refused; ")) << checked[0].said;
  EXPECT_TRUE(contains(checked[0].said, "before that this rank called connect (for 2 ranks), all_gather (call 1)"))
      << checked[0].said;
}

TEST(Failure, ARankThatGivesUpTellsTheOthersWhyAtOnce) {
  const auto body = [](Group& group) -> std::string {
    group.synchronize();
    if (group.get_rank() == 2) {
      group.mark_broken("the disk is full");
      return comm_error_of([&] { group.all_gather(1); });
    }
    return comm_error_of([&] { group.all_gather(1); });
  };
  const auto results = run_ranks(4, body, kNoWait);
  for (int rank : {0, 1, 3}) {
    const RankResult& result = results[static_cast<std::size_t>(rank)];
    EXPECT_TRUE(contains(result.said, "rank 2 gave up: the disk is full")) << result.said;
  }
  EXPECT_TRUE(contains(results[2].said, "the group is broken: the disk is full")) << results[2].said;
}

TEST(Failure, AnotherThreadEndsAWait) {
  Bell ended;
  const auto body = [&ended](Group& group) -> std::string {
    group.synchronize();
    if (group.get_rank() == 1) {
      ended.wait_for(1);  // alive, but does not come
      return "";
    }
    std::thread other([&group] { group.mark_broken("somebody pressed a key"); });
    const std::string error = comm_error_of([&] { group.synchronize(); });
    other.join();
    ended.ring();
    return error;
  };
  const auto results = run_ranks(2, body, {.timeout = std::chrono::seconds(50), .hard_limit = std::chrono::seconds(8)});
  EXPECT_EQ(results[0].status, 0) << results[0].said;
  EXPECT_TRUE(contains(results[0].said, "broken")) << results[0].said;
}

TEST(Failure, AMissingRankIsNamedWhenConnecting) {
  const auto body = [](const ConnectOptions& options) -> std::string {
    if (options.rank == 1) return "stays away";
    return comm_error_of([&] { connect_group(options); });
  };
  for (bool tcp : {false, true}) {
    const auto results = run_processes(3, body, {.timeout = std::chrono::milliseconds(1000), .tcp = tcp});
    for (int rank : {0, 2}) {
      const RankResult& result = results[static_cast<std::size_t>(rank)];
      EXPECT_TRUE(contains(result.said, "rank 1 of 3 did not come to the store at ")) << result.said;
    }
  }
}

TEST(Failure, AnAddressThatNobodyListensAtIsShown) {
  const auto body = [](const ConnectOptions& options) -> std::string {
    ConnectOptions wrong = options;
    wrong.file.clear();
    wrong.port = 9;
    return comm_error_of([&] { connect_group(wrong); });
  };
  const auto results = run_processes(2, body, {.timeout = std::chrono::milliseconds(1000)});
  for (const RankResult& result : results) {
    EXPECT_TRUE(contains(result.said, "the store at 127.0.0.1:9 cannot be reached")) << result.said;
  }
}

TEST(Failure, RanksOfAnotherWorldSizeAreRefused) {
  const auto body = [](const ConnectOptions& options) -> std::string {
    ConnectOptions own = options;
    if (options.rank == 0) own.world_size = own.local_size = 2;
    return comm_error_of([&] { connect_group(own); });
  };
  const auto results = run_processes(3, body, {.timeout = std::chrono::milliseconds(1500)});
  for (const RankResult& result : results) {
    EXPECT_TRUE(contains(result.said, "rank 0 was started as one of 2 ranks, this one as one of 3") ||
                contains(result.said, "rank 1 was started as one of 3 ranks, this one as one of 2"))
        << result.said;
  }
}

}  // namespace
}  // namespace treadle

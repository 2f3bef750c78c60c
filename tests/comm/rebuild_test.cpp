// A group that goes on without the ranks that it lost, or with others in their place.
#include "tests/comm/comm_errors.hpp"
#include "tests/support/bell.hpp"

#include <treadle/comm/process_group.hpp>

#include <gtest/gtest.h>
#include <signal.h>
#include <unistd.h>

namespace treadle {
namespace {

TEST(Rebuild, GoesOnWithTheRanksThatAreLeft) {
  Bell bell;
  const auto body = [&bell](const ConnectOptions& options) -> std::string {
    ConnectOptions own = options;
    own.rebuild_wait = std::chrono::milliseconds(700);
    const auto group = connect_group(own);
    group->all_gather(1);
    if (options.rank == 1) {
      bell.wait_for(3);
      kill(getpid(), SIGKILL);
    }
    bell.ring();
    EXPECT_THROW(group->synchronize(), CommError);
    group->rebuild();
    EXPECT_FALSE(group->is_broken());
    EXPECT_EQ(group->generation(), 1);
    EXPECT_EQ(group->get_world_size(), 3);
    EXPECT_EQ(group->get_rank(), options.rank == 0 ? 0 : options.rank - 1);
    // Two "machines" of two: the first has one process left.
    EXPECT_EQ(group->get_local_size(), options.rank == 0 ? 1 : 2);
    EXPECT_EQ(group->get_local_rank(), options.rank == 3 ? 1 : 0);
    const List ranks = group->all_gather(options.rank);
    EXPECT_EQ(ranks.at(0).as_int(), 0);
    EXPECT_EQ(ranks.at(1).as_int(), 2);
    EXPECT_EQ(ranks.at(2).as_int(), 3);
    return "";
  };
  const auto results = run_processes(4, body, {.local_size = 2});
  for (int rank : {0, 2, 3})
    EXPECT_EQ(results[static_cast<std::size_t>(rank)].status, 0) << results[static_cast<std::size_t>(rank)].said;
}

TEST(Rebuild, WhoComesTooLateIsToldSo) {
  Bell bell, rebuilt;
  const auto body = [&](const ConnectOptions& options) -> std::string {
    ConnectOptions own = options;
    own.rebuild_wait = std::chrono::milliseconds(100);
    const auto group = connect_group(own);
    if (options.rank == 1) {
      bell.wait_for(2);
      kill(getpid(), SIGKILL);
    }
    bell.ring();
    EXPECT_THROW(group->synchronize(), CommError);
    if (options.rank == 0) {
      group->rebuild();
      EXPECT_EQ(group->get_world_size(), 1);
      rebuilt.ring();
      return "";
    }
    rebuilt.wait_for(1);
    return comm_error_of([&] { group->rebuild(); });
  };
  const auto results = run_processes(3, body, kNoWait);
  EXPECT_EQ(results[0].status, 0) << results[0].said;
  EXPECT_TRUE(contains(results[2].said, "the other ranks went on without this one")) << results[2].said;
}

TEST(Rebuild, TheLastRankGoesOnAlone) {
  Bell bell;
  const auto body = [&bell](const ConnectOptions& options) -> std::string {
    ConnectOptions own = options;
    own.rebuild_wait = std::chrono::milliseconds(300);
    const auto group = connect_group(own);
    if (options.rank == 0) {
      bell.wait_for(1);
      kill(getpid(), SIGKILL);
    }
    bell.ring();
    EXPECT_THROW(group->synchronize(), CommError);
    group->rebuild();
    EXPECT_EQ(group->get_world_size(), 1);
    EXPECT_TRUE(group->is_main_process());
    EXPECT_EQ(group->all_gather("x").size(), 1U);
    group->rebuild();
    EXPECT_EQ(group->generation(), 2);
    EXPECT_EQ(group->broadcast(std::string(10'000, 'y'), 0).as_string().size(), 10'000U);
    return "";
  };
  const auto results = run_processes(2, body);
  EXPECT_EQ(results[1].status, 0) << results[1].said;
}

TEST(Rebuild, TakesAFreshProcessInPlaceOfALostOne) {
  // The last process plays the one that is started in place of rank 1.
  Bell bell;
  const auto body = [&bell](const ConnectOptions& options) -> std::string {
    ConnectOptions own = options;
    own.world_size = own.local_size = 3;
    if (options.rank == 3) {
      own.rank = own.local_rank = 1;
      own.generation = 1;
    }
    auto group = connect_group(own);
    if (options.rank != 3) {
      if (options.rank == 1) {
        bell.wait_for(2);
        kill(getpid(), SIGKILL);
      }
      bell.ring();
      EXPECT_THROW(group->synchronize(), CommError);
      group->rebuild();
    }
    EXPECT_EQ(group->generation(), 1);
    const List all = group->all_gather(options.rank);
    EXPECT_EQ(all.at(1).as_int(), 3);
    EXPECT_EQ(all.size(), 3U);
    return "";
  };
  const auto results = run_processes(4, body);
  for (int rank : {0, 2, 3})
    EXPECT_EQ(results[static_cast<std::size_t>(rank)].status, 0) << results[static_cast<std::size_t>(rank)].said;
}

}  // namespace
}  // namespace treadle

#include "tests/support/ranks.hpp"

#include <treadle/base/errors.hpp>
#include <treadle/comm/process_group.hpp>

#include <ATen/ops/arange.h>
#include <ATen/ops/full.h>
#include <ATen/ops/zeros.h>
#include <gtest/gtest.h>
#include <signal.h>

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
      EXPECT_EQ(group.get_world_size(), size);
      EXPECT_EQ(group.get_local_size(), size);
      EXPECT_EQ(group.get_local_rank(), group.get_rank());
      EXPECT_EQ(group.is_main_process(), group.get_rank() == 0);
      EXPECT_EQ(group.generation(), 0);
      EXPECT_EQ(group.all_gather(group.get_rank()).at(1).as_int(), 1);
    });
  }
}

TEST(ProcessGroup, AllGathersValuesOfAnySize) {
  for (int size : kSizes) {
    expect_ranks(size, [size](Group& group) {
      // All short; all long; one long among short; one very long among long.
      for (std::size_t mine : {std::size_t{10}, std::size_t{100'000}}) {
        for (std::size_t last : {std::size_t{10}, std::size_t{100'000}, std::size_t{3'000'000}}) {
          const auto length = [&](int rank) { return rank == size - 1 ? last : mine; };
          const int rank = group.get_rank();
          const List all = group.all_gather(sample(rank, length(rank)));
          ASSERT_EQ(all.size(), static_cast<std::size_t>(size));
          for (int i = 0; i < size; ++i) EXPECT_TRUE(identical(all[static_cast<std::size_t>(i)], sample(i, length(i))));
        }
      }
    });
  }
}

}  // namespace
}  // namespace treadle

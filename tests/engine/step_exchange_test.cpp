#include <tests/support/fake_group.hpp>
#include <treadle/engine.hpp>

#include <gtest/gtest.h>

#include <cmath>

namespace treadle {
namespace {

TEST(StepExchange, OneProcessGetsItsOwnFactsWithoutACollective) {
  const auto group = make_single_process_group();
  StepExchange exchange;
  exchange.start(*group, {.losses = {{"a", 0.5}, {"b", 2}}, .data_time = 0.125, .finite = false}, true);
  EXPECT_TRUE(exchange.started());
  EXPECT_THROW(group->wait_step_exchange(), CommError);
  const StepVerdict& verdict = exchange.wait(*group);
  EXPECT_EQ(verdict.losses, (NamedNumbers{{"a", 0.5}, {"b", 2}}));
  EXPECT_EQ(verdict.data_time, 0.125);
  EXPECT_FALSE(verdict.finite);
  EXPECT_TRUE(verdict.stop);
  EXPECT_FALSE(exchange.started());
}

TEST(StepExchange, IsStartedOnceAndWaitedForOnce) {
  const auto group = make_single_process_group();
  StepExchange exchange;
  EXPECT_THROW(exchange.wait(*group), CommError);
  exchange.start(*group, {}, false);
  EXPECT_THROW(exchange.start(*group, {}, false), CommError);
  exchange.reset();
  EXPECT_NO_THROW(exchange.start(*group, {}, false));
}

/// The rows of ranks that have the losses given, with flags, beside this rank's own row.
std::function<StepRows(const std::vector<double>&)> others(std::vector<double> losses, double data_time, bool finite, bool stop) {
  return [=](const std::vector<double>& own) {
    std::vector<double> other = {stop ? 1.0 : 0.0, finite ? 1.0 : 0.0, own.at(2), data_time};
    other.insert(other.end(), losses.begin(), losses.end());
    return StepRows{own, other, other};
  };
}

StepVerdict exchange_with(const std::function<StepRows(const std::vector<double>&)>& play, bool finite = true,
                          bool stop = false) {
  FakeGroup group(0, 3);
  group.play_exchange = play;
  StepExchange exchange;
  exchange.start(group, {.losses = {{"a", 1}, {"b", 4}}, .data_time = 0.5, .finite = finite}, stop);
  return exchange.wait(group);
}

TEST(StepExchange, ManyRanksGetMeansMaximumAndUnion) {
  const StepVerdict verdict = exchange_with(others({4, 10}, 0.25, true, false));
  EXPECT_EQ(verdict.losses, (NamedNumbers{{"a", 3}, {"b", 8}}));
  EXPECT_EQ(verdict.data_time, 0.5);
  EXPECT_TRUE(verdict.finite);
  EXPECT_FALSE(verdict.stop);
  EXPECT_EQ(exchange_with(others({4, 10}, 0.75, true, false)).data_time, 0.75);
  EXPECT_FALSE(exchange_with(others({4, 10}, 0, false, false)).finite);
  EXPECT_FALSE(exchange_with(others({4, 10}, 0, true, false), /*finite=*/false).finite);
  EXPECT_TRUE(exchange_with(others({4, 10}, 0, true, true)).stop);
  EXPECT_TRUE(exchange_with(others({4, 10}, 0, true, false), true, /*stop=*/true).stop);
}

TEST(StepExchange, MeansAreAddedUpInTheOrderOfNumpy) {
  // Rank r has the losses 1 / (r + 3) and 0.7 / (r + 1); the means are those of np.mean in numpy 2.4.6. From 8 numbers on it does
  // not add them up one after the other.
  struct Case {
    int ranks;
    double first, second;
  };
  for (const Case& expected :
       {Case{7, 0x1.84d171a963badp-3, 0x1.098231bcb564fp-2}, Case{8, 0x1.6dd0dd0dd0dd0p-3, 0x1.e70a3d70a3d6fp-3},
        Case{9, 0x1.59db45c90c675p-3, 0x1.c29f8aaeb64c0p-3}, Case{17, 0x1.ed628263e8f55p-4, 0x1.220e316118defp-3}}) {
    FakeGroup group(1, expected.ranks);
    group.play_exchange = [&](const std::vector<double>& own) {
      StepRows rows;
      for (int rank = 0; rank < expected.ranks; ++rank) {
        rows.push_back(own);
        rows.back().at(4) = 1.0 / (rank + 3);
        rows.back().at(5) = 0.7 / (rank + 1);
      }
      return rows;
    };
    StepExchange exchange;
    exchange.start(group, {.losses = {{"a", 1.0 / 4}, {"b", 0.7 / 2}}}, false);
    EXPECT_EQ(exchange.wait(group).losses, (NamedNumbers{{"a", expected.first}, {"b", expected.second}})) << expected.ranks;
  }
}

TEST(StepExchange, OtherLossesOnARankAreAnError) {
  EXPECT_THROW(exchange_with(others({4}, 0, true, false)), CommError);
  EXPECT_THROW(exchange_with([](const std::vector<double>& own) {
                 auto other = own;
                 other[2] += 1;
                 return StepRows{own, own, other};
               }),
               CommError);
  // Names count, not only their number.
  std::vector<double> prints;
  for (const NamedNumbers& losses :
       {NamedNumbers{{"a", 1}, {"b", 1}}, NamedNumbers{{"b", 1}, {"a", 1}}, NamedNumbers{{"ab", 1}, {"", 1}}}) {
    FakeGroup group(0, 2);
    group.play_exchange = [&](const std::vector<double>& own) {
      prints.push_back(own.at(2));
      return StepRows{own, own};
    };
    StepExchange exchange;
    exchange.start(group, {.losses = losses}, false);
    exchange.wait(group);
  }
  EXPECT_NE(prints[0], prints[1]);
  EXPECT_NE(prints[0], prints[2]);
}

}  // namespace
}  // namespace treadle

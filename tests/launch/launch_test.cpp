#include <treadle/base/errors.hpp>
#include <treadle/launch.hpp>

#include <gtest/gtest.h>

namespace treadle {
namespace {

TEST(Launch, RunsOneProcessHereAndPassesItsStatusOn) {
  int calls = 0;
  const int status = launch([&](std::shared_ptr<Group> group) {
    ++calls;
    EXPECT_EQ(group->get_world_size(), 1);
    return 7;
  });
  EXPECT_EQ(status, 7);
  EXPECT_EQ(calls, 1);
}

TEST(Launch, ExceptionsPassThrough) {
  EXPECT_THROW(launch([](std::shared_ptr<Group>) -> int { throw FormatError("from the rank"); }), FormatError);
}

TEST(Launch, OptionsOutOfRangeAreNamedBeforeAnythingRuns) {
  const RankMain never = [](std::shared_ptr<Group>) -> int { throw std::logic_error("must not run"); };
  EXPECT_THROW(launch(never, {.num_processes = 0}), ConfigError);
  EXPECT_THROW(launch(never, {.num_machines = 0}), ConfigError);
  EXPECT_THROW(launch(never, {.machine_rank = 1}), ConfigError);
  EXPECT_THROW(launch(never, {.num_processes = 2}), ConfigError);
  EXPECT_THROW(launch(never, {.num_machines = 2}), ConfigError);
  try {
    validate(LaunchOptions{.machine_rank = -1});
    FAIL();
  } catch (const ConfigError& error) {
    EXPECT_EQ(error.key(), "LaunchOptions.machine_rank");
  }
}

}  // namespace
}  // namespace treadle

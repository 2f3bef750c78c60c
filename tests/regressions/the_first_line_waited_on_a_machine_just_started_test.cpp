// The first line of a metrics.json with a max_delay went through at once only where the machine had been up for longer than that:
// no flush was taken for one at the begin of the clock, which is the start of the machine.
#include <tests/support/temporary_folder.hpp>
#include <treadle/events/event_storage.hpp>
#include <treadle/events/json_writer.hpp>

#include <gtest/gtest.h>

#include <chrono>

namespace treadle {
namespace {

TEST(Regressions, TheFirstLineWaitsForNothing) {
  const TemporaryFolder folder;
  constexpr auto longer_than_any_machine_is_up = std::chrono::hours(24 * 365 * 100);
  JSONWriter writer({.file = folder / "m", .max_delay = longer_than_any_machine_is_up});
  EventStorage storage;
  storage.put_scalar("a", 0.5);
  writer.write(storage);
  EXPECT_EQ(read_text(folder / "m"), "{\"a\": 0.5, \"iteration\": 0}\n");
}

}  // namespace
}  // namespace treadle

#include <tests/hooks/idle_trainer.hpp>
#include <treadle/base/device.hpp>
#include <treadle/base/errors.hpp>
#include <treadle/hooks.hpp>

#include <ATen/ops/ones.h>
#include <gtest/gtest.h>

#include <algorithm>

#include "hooks/memory_report.hpp"

namespace treadle {
namespace {

constexpr std::int64_t kMiB = 1024 * 1024;

struct TorchMemoryStatsTest : testing::Test {
  IdleTrainer trainer;
  std::vector<std::string> lines() const {
    std::vector<std::string> found;
    for (const std::string& line : trainer.logs) {
      if (line.starts_with("iter: ")) found.push_back(line.substr(0, line.find(' ', 6)));
    }
    return found;
  }
};

TEST_F(TorchMemoryStatsTest, LogsEveryPeriodAndTheLastIteration) {
  trainer.add_hook<hooks::TorchMemoryStats>(hooks::TorchMemoryStatsOptions{.period = 3});
  trainer.train(0, 8);
  EXPECT_EQ(lines(), (std::vector<std::string>{"iter: 2", "iter: 5", "iter: 7"}));
}

TEST_F(TorchMemoryStatsTest, StopsAfterSoManyLinesWithATable) {
  trainer.add_hook<hooks::TorchMemoryStats>(hooks::TorchMemoryStatsOptions{.period = 1, .max_runs = 2});
  trainer.train(0, 5);
  EXPECT_EQ(lines(), (std::vector<std::string>{"iter: 0", "iter: 1"}));
  EXPECT_TRUE(trainer.logs.back().starts_with("memory "));
  trainer.train(0, 5);
  EXPECT_EQ(lines().size(), 4u);
}

TEST(HostMemory, CountsWhatIsTaken) {
  const hooks::HostMemory before = hooks::host_memory();
  const at::Tensor large = at::ones({64 * kMiB / 4});
  const hooks::HostMemory after = hooks::host_memory();
  EXPECT_GE(after.resident - before.resident, 60 * kMiB);
#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)  // their allocators stand in the place of the C library's
  EXPECT_GE(after.allocated - before.allocated, 64 * kMiB);
#endif
  EXPECT_GE(after.reserved, after.allocated);
  EXPECT_GE(after.max_resident, after.resident);
}

TEST(MemoryLines, SayMebibytes) {
  const hooks::HostMemory host{.resident = 2 * kMiB, .max_resident = 3 * kMiB, .reserved = 4 * kMiB, .allocated = kMiB};
  EXPECT_EQ(hooks::memory_line(7, host),
            "iter: 7  max_resident_mem: 3MB  resident_mem: 2MB  reserved_mem: 4MB  allocated_mem: 1MB");
  const std::vector<hooks::MemoryCounter> counters{
      {"reserved", 2 * kMiB, 5 * kMiB}, {"allocated", kMiB, 3 * kMiB}, {"active", 0, kMiB}};
  EXPECT_EQ(hooks::memory_line(7, counters),
            "iter: 7  max_reserved_mem: 5MB  reserved_mem: 2MB  max_allocated_mem: 3MB  allocated_mem: 1MB");
  const std::string table = hooks::memory_table(counters);
  EXPECT_NE(table.find("active                   0.0 MiB         1.0 MiB"), std::string::npos) << table;
  EXPECT_EQ(std::count(table.begin(), table.end(), '\n'), 3);
}

TEST(AcceleratorMemory, CountsTensorsAndForgetsPeaks) {
  if (accelerator_count() == 0) {
    EXPECT_FALSE(hooks::accelerator_memory());
    GTEST_SKIP() << "there is no accelerator";
  }
  at::Tensor tensor = at::ones({kMiB}).to(default_device());
  const auto with = hooks::accelerator_memory();
  ASSERT_TRUE(with);
  EXPECT_EQ(with->at(1).name, "allocated");
  EXPECT_GE(with->at(1).current, 4 * kMiB);
  tensor.reset();
  hooks::reset_accelerator_peaks();
  const auto without = hooks::accelerator_memory();
  EXPECT_LE(without->at(1).peak, with->at(1).peak - 4 * kMiB);
}

TEST(TorchMemoryStatsOptions, OutOfRangeAreNamed) {
  EXPECT_THROW(hooks::validate(hooks::TorchMemoryStatsOptions{.period = 0}), ConfigError);
  EXPECT_THROW(hooks::TorchMemoryStats({.max_runs = -1}), ConfigError);
}

}  // namespace
}  // namespace treadle

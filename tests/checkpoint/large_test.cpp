// Files beyond 4 GiB, where sizes and offsets of a zip archive take their 64 bit form. Needs 10 GiB of memory and disk, and a
// minute: runs with TREADLE_STRESS=1 alone.
#include <treadle/checkpoint/file.hpp>
#include <treadle/checkpoint/open_file.hpp>

#include <ATen/core/Tensor.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/empty.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <cstdlib>
#include <fstream>

#include "tests/support/source_folder.hpp"
#include "tests/support/temporary_folder.hpp"

namespace treadle {
namespace {

constexpr std::int64_t kBytes = (std::int64_t{4} << 30) + 12'345;
constexpr std::uint64_t kNeeded = std::uint64_t{10} << 30;

std::uint64_t free_memory() {
  std::ifstream facts("/proc/meminfo");
  std::string name, unit;
  for (std::uint64_t kilobytes = 0; facts >> name >> kilobytes; std::getline(facts, unit)) {
    if (name == "MemAvailable:") return kilobytes << 10;
  }
  return 0;
}

/// What stands at `i` of the large tensor.
std::uint8_t pattern(std::int64_t i) { return static_cast<std::uint8_t>((i >> 20) * 7 + i); }

at::Tensor large_tensor() {
  at::Tensor tensor = at::empty({kBytes}, at::TensorOptions().dtype(c10::kByte));
  auto* bytes = tensor.mutable_data_ptr<std::uint8_t>();
  for (std::int64_t i = 0; i < kBytes; ++i) bytes[i] = pattern(i);
  return tensor;
}

void expect_whole(const Value& value) {
  const Dict& dict = value.as_dict();
  const at::Tensor& large = dict.at("large").as_tensor();
  ASSERT_EQ(large.numel(), kBytes);
  const auto* bytes = large.const_data_ptr<std::uint8_t>();
  std::int64_t wrong = 0;
  for (std::int64_t i = 0; i < kBytes; ++i) wrong += bytes[i] != pattern(i);
  EXPECT_EQ(wrong, 0);
  EXPECT_TRUE(dict.at("behind").as_tensor().equal(at::arange(1000, c10::kLong)));
}

std::string python() {
  const char* chosen = std::getenv("TREADLE_PYTHON");
  return chosen ? chosen : source_folder() + "/.venv/bin/python";
}

struct Large : testing::Test {
  TemporaryFolder folder;
  std::filesystem::path path = folder / "large.pth";

  void SetUp() override {
    if (!std::getenv("TREADLE_STRESS")) GTEST_SKIP() << "files beyond 4 GiB: set TREADLE_STRESS=1";
    const std::uint64_t disk = std::filesystem::space(folder.path()).available;
    if (disk < kNeeded) GTEST_SKIP() << "10 GiB of disk are needed for files beyond 4 GiB, there are " << (disk >> 30);
    if (free_memory() < kNeeded)
      GTEST_SKIP() << "10 GiB of memory are needed for files beyond 4 GiB, there are " << (free_memory() >> 30);
  }
};

TEST_F(Large, ComesBackWholeOpensLazilyAndIsReadByPython) {
  save_checkpoint_file(path, Dict{{"large", large_tensor()}, {"behind", at::arange(1000, c10::kLong)}}, {.durable = false});
  ASSERT_GT(std::filesystem::file_size(path), std::uintmax_t{1} << 32);
  expect_whole(load_checkpoint_file(path));
  const CheckpointFile file(path);
  EXPECT_TRUE(file.read(file.content().as_dict().at("behind").as_tensor()).equal(at::arange(1000, c10::kLong)));
  expect_whole(file.read(file.content()));

  if (std::system((python() + " -c 'import torch' >/dev/null 2>&1").c_str()) != 0)
    GTEST_SKIP() << "no Python with torch: set TREADLE_PYTHON";
  std::ofstream(folder / "check.py") << R"(import sys, torch
path, count = sys.argv[1], int(sys.argv[2])
value = torch.load(path, weights_only=True, mmap=True)
assert value["behind"].equal(torch.arange(1000)) and value["large"].numel() == count
for i in list(range(0, count, 123457)) + [count - 1]:
    assert value["large"][i].item() == ((i >> 20) * 7 + i) % 256, i
torch.save({"large": value["large"], "behind": value["behind"]}, path + ".copy")
)";
  const std::string command = python() + " " + (folder / "check.py") + " " + path.string() + " " + std::to_string(kBytes);
  ASSERT_EQ(std::system(command.c_str()), 0);
  std::filesystem::remove(path);
  expect_whole(load_checkpoint_file(path.string() + ".copy"));
}

}  // namespace
}  // namespace treadle

#include <treadle/data/batch_memory.hpp>
#include <treadle/data/data_loader.hpp>

#include <ATen/ops/arange.h>
#include <ATen/ops/equal.h>
#include <ATen/ops/full.h>
#include <ATen/ops/full_like.h>
#include <gtest/gtest.h>

#include <set>

namespace treadle {
namespace {

constexpr std::int64_t large = 1 << 20;

TEST(BatchMemory, GivesBackWhatWasDropped) {
  BatchMemory memory;
  at::Tensor first = memory.empty({4, large / 4}, at::kFloat);
  EXPECT_EQ(first.sizes(), (at::IntArrayRef{4, large / 4}));
  EXPECT_EQ(first.scalar_type(), at::kFloat);
  EXPECT_TRUE(first.is_contiguous());
  const void* address = first.data_ptr();
  at::Tensor view = first[3];
  first.reset();
  EXPECT_NE(memory.empty({large}, at::kFloat).data_ptr(), address) << "a view still uses it";
  view.reset();
  const at::Tensor again = memory.empty({large}, at::kInt);
  EXPECT_EQ(again.data_ptr(), address) << "of another type, but the same size";
  EXPECT_GE(memory.bytes_in_use(), static_cast<std::size_t>(4 * large));
}

TEST(BatchMemory, HoldsNoMoreThanWasEverAlive) {
  BatchMemory memory;
  std::size_t most = 0;
  for (int round = 0; round < 50; ++round) {
    std::vector<at::Tensor> alive;
    for (std::int64_t i = 0; i < 4; ++i) alive.push_back(memory.empty({large + round * 50'000 + i}, at::kByte));
    most = std::max(most, memory.bytes_in_use());
    EXPECT_LE(memory.bytes_in_use() + memory.bytes_waiting(), most);
    alive.clear();
    EXPECT_EQ(memory.bytes_in_use(), 0u);
    EXPECT_LE(memory.bytes_waiting(), most);
    EXPECT_GT(memory.bytes_waiting(), 0u);
  }
}

TEST(BatchMemory, TensorsOutliveIt) {
  at::Tensor tensor;
  {
    BatchMemory memory;
    tensor = memory.empty({large}, at::kByte);
    tensor.fill_(3);
  }
  EXPECT_EQ(tensor[large - 1].item<int>(), 3);
  EXPECT_EQ(BatchMemory().empty({3}, at::kLong).numel(), 3) << "small ones come from LibTorch";
  EXPECT_EQ(BatchMemory().empty({0, 5}, at::kLong).numel(), 0);
}

// The trainer keeps one batch at a time: however many it takes, they lie in few places, and none is written while it is kept.
TEST(BatchMemory, ALoaderGoesRoundInFewPlaces) {
  class Filled final : public Dataset {
   public:
    std::int64_t size() const override { return 200; }
    Sample get(std::int64_t index, Rng&) const override {
      return {{"x", at::full({1 << 14}, index, at::TensorOptions(at::kInt))}};
    }
  };
  for (int workers : {0, 2}) {
    std::set<const void*> places;
    DataLoader loader(std::make_shared<Filled>(), std::make_unique<SequentialSampler>(200),
                      {.batch_size = 1, .num_workers = workers, .prefetch = 2});
    while (const auto batch = loader.next()) {
      const at::Tensor& x = batch->tensor("x");
      places.insert(x.data_ptr());
      ASSERT_TRUE(at::equal(x, at::full_like(x, batch->ids()[0])));
    }
    EXPECT_LE(places.size(), workers == 0 ? 2u : 5u);
  }
}

}  // namespace
}  // namespace treadle

// The writer of zip files handed a large record on at once while the record's own header was still in its buffer.
#include <tests/support/temporary_folder.hpp>
#include <treadle/checkpoint/file.hpp>

#include <ATen/ops/arange.h>
#include <gtest/gtest.h>

namespace treadle {
namespace {

TEST(Regressions, RecordsOfEverySizeFollowTheirHeaders) {
  const TemporaryFolder folder;
  Dict state;
  for (std::int64_t size : {1, 1'000'000, 3, 5'000'000, 17, 100'000}) state.set(size, at::arange(size));
  save_checkpoint_file(folder / "state.pth", state);
  EXPECT_TRUE(identical(load_checkpoint_file(folder / "state.pth"), state));
}

}  // namespace
}  // namespace treadle

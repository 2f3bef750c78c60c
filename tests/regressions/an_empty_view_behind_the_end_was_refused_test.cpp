// A slice of an empty tensor may begin behind the end of its storage; what was written could not be read back.
#include <tests/support/temporary_folder.hpp>
#include <treadle/checkpoint/file.hpp>

#include <ATen/ops/empty.h>
#include <gtest/gtest.h>

namespace treadle {
namespace {

TEST(Regressions, AnEmptyViewBehindTheEndComesBack) {
  const TemporaryFolder folder;
  const at::Tensor view = at::empty({3, 0}).slice(0, 2);
  ASSERT_GT(view.storage_offset(), 0);
  save_checkpoint_file(folder / "state.pth", Dict{{"view", view}});
  const Value back = load_checkpoint_file(folder / "state.pth");
  EXPECT_EQ(back.as_dict().at("view").as_tensor().sizes(), view.sizes());
  EXPECT_EQ(back.as_dict().at("view").as_tensor().storage_offset(), view.storage_offset());
}

}  // namespace
}  // namespace treadle

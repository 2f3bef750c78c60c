// Before the first save of a run there is no folder; asking for its checkpoints threw IoError.
#include <tests/support/temporary_folder.hpp>
#include <treadle/base/errors.hpp>
#include <treadle/checkpoint/checkpointer.hpp>

#include <gtest/gtest.h>
#include <torch/nn/modules/linear.h>

namespace treadle {
namespace {

TEST(Regressions, AFolderNotMadeYetHasNoCheckpoints) {
  const TemporaryFolder folder;
  torch::nn::Linear model(1, 1);
  const Checkpointer checkpointer(*model, folder / "not made yet");
  EXPECT_TRUE(checkpointer.get_all_checkpoint_files().empty());
  EXPECT_FALSE(checkpointer.has_checkpoint());
  // What is there but no folder is still an error.
  write_text(folder / "file", "x");
  EXPECT_THROW(Checkpointer(*model, folder / "file").get_all_checkpoint_files(), IoError);
}

}  // namespace
}  // namespace treadle

// What a save asks of the operating system. This program has an `fsync` and a `rename` of its own, which note the call and make
// it.
#include <treadle/base/errors.hpp>
#include <treadle/checkpoint/checkpointer.hpp>
#include <treadle/checkpoint/file_system.hpp>

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "tests/checkpoint/small_model.hpp"
#include "tests/support/temporary_folder.hpp"

namespace {

std::vector<std::string>* calls = nullptr;

std::string name_of(const std::filesystem::path& path) { return path.filename().string(); }

}  // namespace

extern "C" int fsync(int file) {
  if (calls != nullptr) {
    std::error_code ignored;
    calls->push_back("sync " + name_of(std::filesystem::read_symlink("/proc/self/fd/" + std::to_string(file), ignored)));
  }
  return static_cast<int>(syscall(SYS_fsync, file));
}

extern "C" int rename(const char* from, const char* to) noexcept {
  if (calls != nullptr) calls->push_back("rename " + name_of(from) + " " + name_of(to));
  return static_cast<int>(syscall(SYS_renameat2, AT_FDCWD, from, AT_FDCWD, to, 0));
}

namespace treadle {
namespace {

TEST(LocalFiles, ASaveSyncsEachFileAndThenItsName) {
  const TemporaryFolder folder;
  const std::string name = name_of(folder.path());
  SmallModel model(1);
  Checkpointer checkpointer(model, folder.path());
  std::vector<std::string> seen;
  calls = &seen;
  checkpointer.save("model_1");
  calls = nullptr;
  // The first one makes the names of the folders durable, up to the root.
  std::vector<std::string> above;
  for (std::filesystem::path path = folder.path(); path.has_relative_path();) {
    path = path.parent_path();
    above.push_back("sync " + name_of(path.c_str()));
  }
  ASSERT_GT(seen.size(), above.size());
  EXPECT_EQ(std::vector<std::string>(seen.begin(), seen.begin() + std::ssize(above)), above);
  seen.clear();
  calls = &seen;
  checkpointer.save("model_1");
  calls = nullptr;
  EXPECT_EQ(seen, (std::vector<std::string>{"sync .model_1.pth.treadle-tmp", "rename .model_1.pth.treadle-tmp model_1.pth",
                                            "sync " + name, "sync .last_checkpoint.treadle-tmp",
                                            "rename .last_checkpoint.treadle-tmp last_checkpoint", "sync " + name}));
}

TEST(LocalFiles, ANameThatNoFolderCanHaveIsAnIoError) {
  const TemporaryFolder folder;
  const std::filesystem::path too_long = folder / (std::string(300, 'x') + "/run");
  EXPECT_THROW(local_file_system()->create_folders(too_long), IoError);
  EXPECT_THROW(local_file_system()->list(too_long), IoError);
  EXPECT_THROW(local_file_system()->is_file(too_long), IoError);
}

}  // namespace
}  // namespace treadle

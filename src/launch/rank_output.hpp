#pragma once

#include <launch/descriptor.hpp>

#include <sys/types.h>

#include <filesystem>
#include <string>
#include <vector>

namespace treadle {

/// Where what a rank writes to stdout and stderr goes: a file, or memory when there is no folder for it. Opened by the launcher
/// before the ranks are, which inherit it.
class RankOutput {
 public:
  /// Appends to `folder`/rank_N.out; memory when `folder` is empty. Throws IoError.
  RankOutput(const std::filesystem::path& folder, int rank);

  /// Replaces stdout and stderr of the calling process. Returns a descriptor of the stdout of before.
  Descriptor take_over() const;
  /// At most `count` of the last lines of this run.
  std::vector<std::string> last_lines(std::size_t count) const;
  /// Empty for memory.
  const std::filesystem::path& file() const noexcept { return file_; }

 private:
  std::filesystem::path file_;
  Descriptor output_;
  off_t begin_ = 0;  // behind what earlier runs wrote
};

}  // namespace treadle

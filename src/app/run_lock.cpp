#include <app/run_lock.hpp>
#include <treadle/base/errors.hpp>

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/file.h>
#include <unistd.h>

#include <cerrno>

namespace treadle {

RunLock::RunLock(const std::filesystem::path& folder) {
  // What is wrong with the folder itself is said by the set-up of the run, which comes next.
  std::error_code ignored;
  std::filesystem::create_directories(folder, ignored);
  descriptor_ = ::open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (descriptor_ < 0 || ::flock(descriptor_, LOCK_EX | LOCK_NB) == 0 || errno != EWOULDBLOCK) return;
  ::close(descriptor_);
  throw ConfigError(
      fmt::format("another run is training in \"{}\"; wait for its end, or choose another OUTPUT_DIR", folder.string()),
      "OUTPUT_DIR");
}

RunLock::~RunLock() {
  if (descriptor_ >= 0) ::close(descriptor_);
}

}  // namespace treadle

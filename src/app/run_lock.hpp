#pragma once

#include <filesystem>

namespace treadle {

/// Keeps a second training run out of a folder for as long as it lives. The lock is the kernel's and goes with the process,
/// however that ends; no file is left.
class RunLock {
 public:
  /// Makes the folder where it is missing. Throws ConfigError when another run is at work in it. A folder that cannot be made or
  /// opened, or whose file system has no locks, is taken without one.
  explicit RunLock(const std::filesystem::path& folder);
  ~RunLock();
  RunLock(const RunLock&) = delete;
  RunLock& operator=(const RunLock&) = delete;

 private:
  int descriptor_;
};

}  // namespace treadle

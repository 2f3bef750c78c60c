#pragma once

#include <sys/types.h>

#include <cstdio>
#include <optional>
#include <string>

namespace treadle {

/// A Python process that times torch.utils.data.DataLoader, case by case, while ours rests.
class PythonSide {
 public:
  PythonSide();
  ~PythonSide();
  PythonSide(const PythonSide&) = delete;
  PythonSide& operator=(const PythonSide&) = delete;

  /// Seconds a batch; nothing when Python, or a package that the case needs, is not there.
  std::optional<double> seconds(const std::string& line);

 private:
  pid_t pid_ = -1;
  std::FILE* to_ = nullptr;
  std::FILE* from_ = nullptr;
};

}  // namespace treadle

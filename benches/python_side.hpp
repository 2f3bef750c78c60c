#pragma once

#include <sys/types.h>

#include <cstdio>
#include <optional>
#include <string>
#include <vector>

namespace treadle {

/// The folder of the project's sources.
std::string source_folder();

/// The Python of the comparisons: TREADLE_PYTHON, or the project's .venv.
std::string python_program();

/// A Python process that runs a script of benches/ and does one thing at a time while ours rests: it reads a line, and answers
/// with the seconds it took, or with a word that is no number when it cannot. Start it before there are threads or much memory.
class PythonSide {
 public:
  explicit PythonSide(const std::string& script, const std::vector<std::string>& arguments = {},
                      const std::string& program = python_program());
  ~PythonSide();
  PythonSide(const PythonSide&) = delete;
  PythonSide& operator=(const PythonSide&) = delete;

  /// Nothing when Python, or a package that the case needs, is not there.
  std::optional<double> seconds(const std::string& line);

 private:
  pid_t pid_ = -1;
  std::FILE* to_ = nullptr;
  std::FILE* from_ = nullptr;
};

}  // namespace treadle

#include "benches/data/python_side.hpp"

#include <sys/wait.h>
#include <unistd.h>

#include <cstdlib>

namespace treadle {

PythonSide::PythonSide() {
  int to[2], from[2];
  if (access(TREADLE_PYTHON, X_OK) != 0 || pipe(to) != 0 || pipe(from) != 0) return;
  pid_ = fork();
  if (pid_ == 0) {
    dup2(to[0], STDIN_FILENO);
    dup2(from[1], STDOUT_FILENO);
    for (int end : {to[0], to[1], from[0], from[1]}) close(end);
    execl(TREADLE_PYTHON, TREADLE_PYTHON, TREADLE_PYTHON_LOADER, nullptr);
    _exit(127);
  }
  close(to[0]);
  close(from[1]);
  to_ = fdopen(to[1], "w");
  from_ = fdopen(from[0], "r");
}

PythonSide::~PythonSide() {
  if (pid_ < 0) return;
  std::fclose(to_);
  std::fclose(from_);
  waitpid(pid_, nullptr, 0);
}

std::optional<double> PythonSide::seconds(const std::string& line) {
  if (pid_ < 0) return std::nullopt;
  std::fprintf(to_, "%s\n", line.c_str());
  std::fflush(to_);
  char answer[64] = {};
  if (std::fgets(answer, sizeof answer, from_) == nullptr) return std::nullopt;
  char* end = nullptr;
  const double found = std::strtod(answer, &end);
  return end == answer ? std::nullopt : std::optional(found);
}

}  // namespace treadle

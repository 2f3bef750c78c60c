#include "benches/python_side.hpp"

#include <fcntl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <cstdlib>

namespace treadle {

std::string source_folder() { return TREADLE_SOURCE_DIR; }

std::string python_program() {
  const char* chosen = std::getenv("TREADLE_PYTHON");
  return chosen != nullptr ? chosen : source_folder() + "/.venv/bin/python";
}

PythonSide::PythonSide(const std::string& script, const std::vector<std::string>& arguments, const std::string& program) {
  int to[2], from[2];
  if (access(program.c_str(), X_OK) != 0 || pipe2(to, O_CLOEXEC) != 0 || pipe2(from, O_CLOEXEC) != 0) return;
  std::signal(SIGPIPE, SIG_IGN);
  const std::string path = source_folder() + "/benches/" + script;
  std::vector<const char*> words{program.c_str(), path.c_str()};
  for (const std::string& argument : arguments) words.push_back(argument.c_str());
  words.push_back(nullptr);
  pid_ = fork();
  if (pid_ == 0) {
    dup2(to[0], STDIN_FILENO);
    dup2(from[1], STDOUT_FILENO);
    execv(program.c_str(), const_cast<char* const*>(words.data()));
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

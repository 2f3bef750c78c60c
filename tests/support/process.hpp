#pragma once

#include <fcntl.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <functional>
#include <map>
#include <stdexcept>
#include <string>
#include <vector>

namespace treadle {

struct ProcessResult {
  int status = -1;       ///< exit status, or 128 + signal that killed it
  int signal = 0;        ///< the signal that killed it
  std::string out, err;  ///< all it wrote
};

/// Runs a program to its end. `on_output` sees stdout grow and may send the process a signal; it is called with all of stdout so
/// far.
inline ProcessResult run_process(const std::vector<std::string>& command,
                                 const std::map<std::string, std::string>& environment = {},
                                 const std::function<void(const std::string& out, pid_t pid)>& on_output = {}) {
  int out[2], err[2];
  if (pipe(out) != 0 || pipe(err) != 0) throw std::runtime_error("pipe failed");
  const pid_t pid = fork();
  if (pid == 0) {
    dup2(out[1], STDOUT_FILENO);
    dup2(err[1], STDERR_FILENO);
    for (int end : {out[0], out[1], err[0], err[1]}) close(end);
    for (const auto& [name, value] : environment) setenv(name.c_str(), value.c_str(), 1);
    std::vector<char*> arguments;
    for (const std::string& word : command) arguments.push_back(const_cast<char*>(word.c_str()));
    arguments.push_back(nullptr);
    execv(arguments[0], arguments.data());
    _exit(127);
  }
  close(out[1]);
  close(err[1]);
  ProcessResult result;
  char buffer[4096];
  // stderr is short (one line); it is read when stdout has ended.
  for (ssize_t n; (n = read(out[0], buffer, sizeof buffer)) > 0;) {
    result.out.append(buffer, static_cast<std::size_t>(n));
    if (on_output) on_output(result.out, pid);
  }
  for (ssize_t n; (n = read(err[0], buffer, sizeof buffer)) > 0;) result.err.append(buffer, static_cast<std::size_t>(n));
  close(out[0]);
  close(err[0]);
  int status = 0;
  waitpid(pid, &status, 0);
  result.signal = WIFSIGNALED(status) ? WTERMSIG(status) : 0;
  result.status = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
  return result;
}

}  // namespace treadle

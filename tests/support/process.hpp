#pragma once

#include <fcntl.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cstdlib>
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

/// A program that runs, and the ends of the pipes that it writes to; for who started it to close.
struct StartedProcess {
  pid_t pid;
  int out, err;
};

/// Starts a program with the environment of this one and more.
inline StartedProcess start_process(const std::vector<std::string>& command,
                                    const std::map<std::string, std::string>& environment) {
  std::array<int, 2> out{}, err{};
  if (pipe2(out.data(), O_CLOEXEC) != 0 || pipe2(err.data(), O_CLOEXEC) != 0) throw std::runtime_error("pipe failed");
  const pid_t pid = fork();
  if (pid == 0) {
    signal(SIGINT, SIG_DFL);  // a shell has what it starts in the background ignore it
    dup2(out[1], STDOUT_FILENO);
    dup2(err[1], STDERR_FILENO);
    for (const auto& [name, value] : environment) setenv(name.c_str(), value.c_str(), 1);
    std::vector<char*> arguments;
    for (const std::string& word : command) arguments.push_back(const_cast<char*>(word.c_str()));
    arguments.push_back(nullptr);
    execv(arguments[0], arguments.data());
    _exit(127);
  }
  close(out[1]);
  close(err[1]);
  return {pid, out[0], err[0]};
}

/// Notes how a process ended, from what waitpid gave.
inline void note_end(ProcessResult& result, int wait_status) {
  result.signal = WIFSIGNALED(wait_status) ? WTERMSIG(wait_status) : 0;
  result.status = WIFEXITED(wait_status) ? WEXITSTATUS(wait_status) : 128 + WTERMSIG(wait_status);
}

/// Runs a program to its end. `on_output` sees stdout grow and may send the process a signal; it is called with all of stdout so
/// far.
inline ProcessResult run_process(const std::vector<std::string>& command,
                                 const std::map<std::string, std::string>& environment = {},
                                 const std::function<void(const std::string& out, pid_t pid)>& on_output = {}) {
  const StartedProcess process = start_process(command, environment);
  ProcessResult result;
  std::array<char, 4096> buffer{};
  // stderr is short (one line); it is read when stdout has ended.
  for (ssize_t n; (n = read(process.out, buffer.data(), buffer.size())) > 0;) {
    result.out.append(buffer.data(), static_cast<std::size_t>(n));
    if (on_output) on_output(result.out, process.pid);
  }
  for (ssize_t n; (n = read(process.err, buffer.data(), buffer.size())) > 0;) {
    result.err.append(buffer.data(), static_cast<std::size_t>(n));
  }
  close(process.out);
  close(process.err);
  int status = 0;
  waitpid(process.pid, &status, 0);
  note_end(result, status);
  return result;
}

}  // namespace treadle

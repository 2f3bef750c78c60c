#pragma once

#include <tests/support/process.hpp>

#include <pty.h>

namespace treadle {

/// Runs a program on a terminal of so many columns to its end. Both of its outputs are in `out`, each line with the terminal's
/// "\r\n". `environment` is added to that of this process; an empty value takes a variable away.
inline ProcessResult run_on_terminal(const std::vector<std::string>& command,
                                     const std::map<std::string, std::string>& environment, unsigned short columns = 80) {
  winsize size{.ws_row = 24, .ws_col = columns, .ws_xpixel = 0, .ws_ypixel = 0};
  int terminal = -1;
  const pid_t pid = forkpty(&terminal, nullptr, nullptr, &size);
  if (pid < 0) throw std::runtime_error("forkpty failed");
  if (pid == 0) {
    for (const auto& [name, value] : environment) value.empty() ? unsetenv(name.c_str()) : setenv(name.c_str(), value.c_str(), 1);
    std::vector<char*> arguments;
    for (const std::string& word : command) arguments.push_back(const_cast<char*>(word.c_str()));
    arguments.push_back(nullptr);
    execv(arguments[0], arguments.data());
    _exit(127);
  }
  ProcessResult result;
  std::array<char, 4096> buffer{};
  for (ssize_t n; (n = read(terminal, buffer.data(), buffer.size())) > 0;)
    result.out.append(buffer.data(), static_cast<std::size_t>(n));
  close(terminal);
  int status = 0;
  waitpid(pid, &status, 0);
  note_end(result, status);
  return result;
}

}  // namespace treadle

#pragma once

#include <tests/support/process.hpp>

#include <poll.h>
#include <sys/syscall.h>

#include <array>
#include <cerrno>
#include <chrono>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <utility>

namespace treadle {

/// A program that runs while the test goes on. Every wait has a deadline, at which it throws.
class RunningProcess {
 public:
  static constexpr std::chrono::seconds kLongEnough{60};

  explicit RunningProcess(const std::vector<std::string>& command, const std::map<std::string, std::string>& environment = {}) {
    const StartedProcess process = start_process(command, environment);
    pid_ = process.pid;
    out_ = process.out;
    err_ = process.err;
    pidfd_ = static_cast<int>(syscall(SYS_pidfd_open, pid_, 0));
  }
  ~RunningProcess() {
    if (!ended_) {
      ::kill(pid_, SIGKILL);
      waitpid(pid_, nullptr, 0);
    }
    for (int end : {out_, err_, pidfd_}) close(end);
  }
  RunningProcess(const RunningProcess&) = delete;
  RunningProcess& operator=(const RunningProcess&) = delete;

  pid_t pid() const noexcept { return pid_; }
  void signal(int number) const { ::kill(pid_, number); }
  const std::string& out() const noexcept { return result_.out; }

  /// Returns when stdout holds `text`; throws when the program ends without.
  void wait_for(const std::string& text, std::chrono::milliseconds limit = kLongEnough) {
    const auto deadline = std::chrono::steady_clock::now() + limit;
    while (result_.out.find(text) == std::string::npos) {
      if (!read_some(deadline)) throw std::runtime_error("\"" + text + "\" did not come; stdout: " + result_.out + result_.err);
    }
  }

  /// Lets the program run until the deadline, or its end.
  void read_until(std::chrono::steady_clock::time_point deadline) {
    while (read_some(deadline)) {
    }
  }

  /// Waits for the end of the program, not for that of others that hold its stdout.
  ProcessResult finish(std::chrono::milliseconds limit = kLongEnough) {
    const auto deadline = std::chrono::steady_clock::now() + limit;
    read_until(deadline);
    int status = 0;
    if (waitpid(pid_, &status, WNOHANG) != pid_)
      throw std::runtime_error("the program did not end; stdout: " + result_.out + result_.err);
    ended_ = true;
    note_end(result_, status);
    return result_;
  }

 private:
  /// False when the program has ended and all is read, or at the deadline.
  bool read_some(std::chrono::steady_clock::time_point deadline) {
    std::array<pollfd, 3> sources{
        {{out_closed_ ? -1 : out_, POLLIN, 0}, {err_closed_ ? -1 : err_, POLLIN, 0}, {pidfd_, POLLIN, 0}}};
    const auto left = std::chrono::duration_cast<std::chrono::milliseconds>(deadline - std::chrono::steady_clock::now()).count();
    if (poll(sources.data(), sources.size(), static_cast<int>(std::max<decltype(left)>(left, 0))) <= 0) return false;
    bool some = false;
    const auto take = [&](const pollfd& source, std::string& text, bool& closed) {
      if ((source.revents & (POLLIN | POLLHUP)) == 0) return;
      std::array<char, 4096> buffer{};
      const ssize_t size = read(source.fd, buffer.data(), buffer.size());
      closed = size == 0;
      if (size > 0) text.append(buffer.data(), static_cast<std::size_t>(size));
      some = some || size > 0;
    };
    take(sources[0], result_.out, out_closed_);
    take(sources[1], result_.err, err_closed_);
    return some || sources[2].revents == 0;
  }

  pid_t pid_ = -1;
  int out_ = -1, err_ = -1, pidfd_ = -1;
  bool out_closed_ = false, err_closed_ = false, ended_ = false;
  ProcessResult result_;
};

/// The processes in whose environment `NAME=VALUE` stands, zombies excepted: forks keep the environment of the program they come
/// from.
inline std::vector<pid_t> processes_marked(const std::string& mark) {
  std::vector<pid_t> found;
  std::error_code ignored;
  for (const auto& entry : std::filesystem::directory_iterator("/proc", ignored)) {
    const std::string name = entry.path().filename().string();
    if (name.find_first_not_of("0123456789") != std::string::npos) continue;
    std::ifstream file(entry.path() / "environ", std::ios::binary);
    const std::string environment((std::istreambuf_iterator<char>(file)), {});
    if (('\0' + environment).find('\0' + mark + '\0') != std::string::npos) found.push_back(std::atoi(name.c_str()));
  }
  return found;
}

/// A mark that no other process has, as a name and a value.
inline std::pair<std::string, std::string> new_mark() {
  static int count = 0;
  return {"TREADLE_TEST_MARK", std::to_string(getpid()) + "." + std::to_string(++count) + "." +
                                   std::to_string(std::chrono::steady_clock::now().time_since_epoch().count())};
}

/// True when no process bears the mark: at once, or once the last of them has ended, which is waited for.
inline bool none_left(const std::pair<std::string, std::string>& mark,
                      std::chrono::milliseconds limit = std::chrono::seconds(20)) {
  const auto deadline = std::chrono::steady_clock::now() + limit;
  for (;;) {
    const auto left = processes_marked(mark.first + "=" + mark.second);
    if (left.empty()) return true;
    const int pidfd = static_cast<int>(syscall(SYS_pidfd_open, left.front(), 0));
    if (pidfd < 0) continue;
    pollfd source{pidfd, POLLIN, 0};
    const auto wait = std::chrono::duration_cast<std::chrono::milliseconds>(deadline - std::chrono::steady_clock::now()).count();
    const bool ended = poll(&source, 1, static_cast<int>(std::max<decltype(wait)>(wait, 0))) > 0;
    close(pidfd);
    if (!ended) return false;
  }
}

}  // namespace treadle

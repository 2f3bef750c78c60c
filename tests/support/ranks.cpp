#include "tests/support/ranks.hpp"

#include "tests/support/temporary_folder.hpp"

#include <comm/c10d.hpp>

#include <ATen/Parallel.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>
#include <torch/csrc/distributed/c10d/TCPStore.hpp>

#include <cstdio>
#include <exception>
#include <fstream>
#include <stdexcept>

namespace treadle {
namespace {

using Clock = std::chrono::steady_clock;

void require_one_thread() {
  std::ifstream status("/proc/self/status");
  for (std::string line; std::getline(status, line);) {
    if (line.starts_with("Threads:") && std::stoi(line.substr(8)) != 1) {
      throw std::runtime_error("ranks are forked from a process of one thread, this one has" + line.substr(8));
    }
  }
}

void write_all(int file, const std::string& text) {
  for (std::size_t done = 0; done < text.size();) {
    const ssize_t n = write(file, text.data() + done, text.size() - done);
    if (n <= 0) return;
    done += static_cast<std::size_t>(n);
  }
}

/// A forked process, and the pipe on which it says something.
struct Child {
  pid_t pid = -1;
  int pipe = -1;
  bool done = false;
};

/// What happens in a child: it never returns.
[[noreturn]] void be_child(int pipe, const std::function<std::string()>& body) {
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  at::set_num_threads(1);
  int status = 0;
  std::string said;
  try {
    said = body();
    if (testing::Test::HasFailure()) status = 1;
  } catch (const std::exception& error) {
    said = error.what();
    status = 2;
  }
  write_all(pipe, said);
  std::fflush(nullptr);
  _exit(status);
}

Child fork_child(const std::function<std::string()>& body) {
  int ends[2];
  if (pipe(ends) != 0) throw std::runtime_error("pipe failed");
  std::fflush(nullptr);
  Child child{fork(), ends[0], false};
  if (child.pid < 0) throw std::runtime_error("fork failed");
  if (child.pid == 0) {
    close(ends[0]);
    be_child(ends[1], body);
  }
  close(ends[1]);
  return child;
}

/// Children that are gone when this is.
class Children {
 public:
  ~Children() {
    for (Child& child : children_) {
      kill(child.pid, SIGKILL);
      if (!reaped_[static_cast<std::size_t>(&child - children_.data())]) waitpid(child.pid, nullptr, 0);
      close(child.pipe);
    }
  }
  void add(Child child) {
    children_.push_back(child);
    reaped_.push_back(false);
  }
  int pipe_of(std::size_t i) const { return children_[i].pipe; }

  /// Waits until each has ended or stopped, or the deadline has come.
  std::vector<RankResult> wait(Clock::time_point start, Clock::time_point deadline) {
    std::vector<RankResult> results(children_.size());
    std::size_t left = children_.size();
    while (left > 0 && Clock::now() < deadline) {
      for (std::size_t i = 0; i < children_.size(); ++i) {
        if (!children_[i].done && look(i, results[i])) {
          results[i].seconds = std::chrono::duration<double>(Clock::now() - start).count();
          --left;
        }
      }
      if (left > 0) ::poll(nullptr, 0, 2);
    }
    for (std::size_t i = 0; i < children_.size(); ++i) {
      if (!children_[i].done) results[i].said = "did not end within the hard limit";
    }
    return results;
  }

 private:
  bool look(std::size_t i, RankResult& result) {
    int status = 0;
    if (waitpid(children_[i].pid, &status, WNOHANG | WUNTRACED) != children_[i].pid) return false;
    children_[i].done = true;
    if (WIFSTOPPED(status)) {
      result.signal = SIGSTOP;
      return true;
    }
    reaped_[i] = true;
    if (WIFSIGNALED(status)) result.signal = WTERMSIG(status);
    if (WIFEXITED(status)) result.status = WEXITSTATUS(status);
    char buffer[4096];
    for (ssize_t n; (n = read(children_[i].pipe, buffer, sizeof buffer)) > 0;)
      result.said.append(buffer, static_cast<std::size_t>(n));
    return true;
  }

  std::vector<Child> children_;
  std::vector<bool> reaped_;
};

/// Serves a TCPStore until it is killed; its port comes through the pipe.
Child fork_store(int& port) {
  int ends[2];
  if (pipe(ends) != 0) throw std::runtime_error("pipe failed");
  const Child child = fork_child([write_end = ends[1]]() -> std::string {
    c10d::TCPStoreOptions options;
    options.port = 0;
    options.isServer = true;
    options.waitWorkers = false;
    const c10d::TCPStore store("127.0.0.1", options);
    write_all(write_end, std::to_string(store.getPort()) + "\n");
    for (;;) pause();
  });
  close(ends[1]);
  std::string text;
  for (char c = 0; read(ends[0], &c, 1) == 1 && c != '\n';) text += c;
  close(ends[0]);
  port = text.empty() ? 0 : std::stoi(text);
  return child;
}

}  // namespace

std::vector<RankResult> run_processes(int count, const std::function<std::string(const ConnectOptions&)>& body,
                                      const RanksOptions& options) {
  require_one_thread();
  const TemporaryFolder folder;
  const auto start = Clock::now();
  Children store, ranks;
  ConnectOptions connect{.world_size = count, .timeout = options.timeout, .check_order = options.check_order};
  connect.local_size = options.local_size > 0 ? options.local_size : count;
  if (options.tcp) {
    int port = 0;
    store.add(fork_store(port));
    connect.port = static_cast<std::uint16_t>(port);
  } else {
    connect.file = folder / "store";
  }
  for (int rank = 0; rank < count; ++rank) {
    connect.rank = rank;
    connect.local_rank = rank % connect.local_size;
    ranks.add(fork_child([&] { return body(connect); }));
  }
  return ranks.wait(start, start + options.hard_limit);
}

std::vector<RankResult> run_ranks(int world_size, const std::function<std::string(Group&)>& body, const RanksOptions& options) {
  return run_processes(world_size, [&](const ConnectOptions& connect) { return body(*connect_group(connect)); }, options);
}

void expect_ranks(int world_size, const std::function<void(Group&)>& body, const RanksOptions& options) {
  const auto run = [&](Group& group) {
    body(group);
    return std::string();
  };
  const std::vector<RankResult> results = run_ranks(world_size, run, options);
  for (std::size_t rank = 0; rank < results.size(); ++rank) {
    EXPECT_EQ(results[rank].status, 0) << "rank " << rank << " of " << world_size << ": " << results[rank].said << " (signal "
                                       << results[rank].signal << ")";
  }
}

}  // namespace treadle

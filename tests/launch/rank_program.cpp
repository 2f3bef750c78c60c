// A program for the tests of launch(): `rank_program [--option value]… ACTION [argument]…`. Every rank does what ACTION says.
#include <treadle/base/errors.hpp>
#include <treadle/base/log.hpp>
#include <treadle/comm/comm.hpp>
#include <treadle/launch.hpp>

#include <ATen/Parallel.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/resource.h>
#include <unistd.h>

#include <cstdlib>
#include <fstream>
#include <iostream>
#include <map>
#include <string>
#include <thread>
#include <vector>

using namespace treadle;

namespace {

std::vector<std::string> words;  // ACTION and its arguments

std::string argument(std::size_t index) { return index < words.size() ? words[index] : ""; }

/// In one piece, on the stdout of this rank.
void say(const std::string& text) {
  const std::string line = text + "\n";
  if (write(STDOUT_FILENO, line.data(), line.size()) < 0) _exit(9);
}

/// In one piece, into a file that all ranks share.
void note(const std::string& text) { std::ofstream(argument(1), std::ios::app) << text + "\n" << std::flush; }

[[noreturn]] void stay() {
  for (;;) pause();
}

/// Children that leave the process group and the session and ignore SIGTERM, the child of one that has gone among them. Returns
/// when all have noted themselves.
void make_descendants() {
  int ready[2];
  if (pipe2(ready, O_CLOEXEC) != 0) _exit(9);
  const auto settle = [&] {
    setsid();
    signal(SIGTERM, SIG_IGN);
    note("descendant " + std::to_string(getpid()));
    if (write(ready[1], "x", 1) != 1) _exit(9);
    close(ready[1]);
  };
  for (const bool leaves_a_child : {true, false}) {
    if (fork() != 0) continue;
    if (leaves_a_child && fork() != 0) _exit(0);
    settle();
    stay();
  }
  close(ready[1]);
  for (char bytes[4]; read(ready[0], bytes, sizeof bytes) > 0;) {
  }
  close(ready[0]);
}

/// How the rank argument(2) ends, by argument(1); the others wait for it in a collective.
int fail(Group& group) {
  if (group.get_rank() != std::atoi(argument(2).c_str())) {
    for (;;) group.synchronize();
  }
  const std::string how = argument(1);
  std::cout << "the last words of rank " << group.get_rank() << std::endl;
  if (how == "exception") throw FormatError("the cat sat on the keyboard");
  if (how == "settings") throw ConfigError("SOLVER.BASE_LR is a fish");
  if (how == "return") return 7;
  if (how == "exit") _exit(5);
  if (how == "exit_0") _exit(0);
  if (how == "kill") raise(SIGKILL);
  if (how == "stop") raise(SIGSTOP);
  if (how == "abort") {
    const rlimit none{0, 0};
    setrlimit(RLIMIT_CORE, &none);
    abort();
  }
  return 0;
}

/// Says who and where it is, and what the others say.
int exchange(Group& group) {
  const std::string own = std::to_string(group.get_rank()) + "/" + std::to_string(group.get_world_size()) + " local " +
                          std::to_string(group.get_local_rank()) + "/" + std::to_string(group.get_local_size()) + " generation " +
                          std::to_string(group.generation());
  std::string line = "rank " + own + " heard";
  for (const Value& each : group.all_gather(Value(static_cast<std::int64_t>(group.get_rank() * 10)))) {
    line += " " + std::to_string(each.as_int());
  }
  line += " locally";
  for (const Value& each : get_local_process_group(group)->all_gather(Value(static_cast<std::int64_t>(group.get_rank() * 10)))) {
    line += " " + std::to_string(each.as_int());
  }
  note(line);
  return 0;
}

int interrupts[2];  // a pipe with a byte for each

/// Counts what reaches this rank, and ends as if by signal NUMBER: `wait_signal FILE NUMBER`.
int wait_signal(Group& group) {
  if (pipe2(interrupts, O_CLOEXEC | O_NONBLOCK) != 0) return 9;
  struct sigaction action{};
  action.sa_handler = [](int number) {
    const char byte = static_cast<char>(number);
    if (write(interrupts[1], &byte, 1) != 1) _exit(9);
  };
  sigaction(SIGINT, &action, nullptr);
  sigaction(SIGTERM, &action, nullptr);
  group.synchronize();
  if (group.is_main_process()) say("ready");
  pollfd source{interrupts[0], POLLIN, 0};
  while (poll(&source, 1, -1) != 1) {
  }
  // What else was sent has arrived when every rank has got its own.
  group.synchronize();
  char bytes[64];
  note("rank " + std::to_string(group.get_rank()) + " got " + std::to_string(read(interrupts[0], bytes, sizeof bytes)));
  return 128 + std::atoi(argument(2).c_str());
}

/// `work FILE GENERATIONS`: exchanges without end until the generation is GENERATIONS, in which it ends well.
int work(Group& group) {
  if (group.generation() >= std::atoi(argument(2).c_str())) return 0;
  note("rank " + std::to_string(group.get_rank()) + " pid " + std::to_string(getpid()));
  make_descendants();
  group.synchronize();
  if (group.is_main_process()) say("ready " + std::to_string(group.generation()));
  for (;;) group.synchronize();
}

/// Rank 0 fails. Rank 1 hears that it should end, answers as many bytes as it is sent, and ends: `polite FILE FIFO FIFO NUMBER`.
int polite(Group& group) {
  if (pipe2(interrupts, O_CLOEXEC) != 0) return 9;
  signal(SIGTERM, [](int) {
    if (write(interrupts[1], "x", 1) != 1) _exit(9);
  });
  group.synchronize();
  if (group.get_rank() == 0) throw FormatError("enough");
  char byte = 0;
  while (read(interrupts[0], &byte, 1) != 1) {
  }
  log_warning("rank " + std::to_string(group.get_rank()) + " tidies up");
  const int sent = open(argument(2).c_str(), O_RDONLY | O_CLOEXEC), answered = open(argument(3).c_str(), O_WRONLY | O_CLOEXEC);
  for (int i = 0; i < std::atoi(argument(4).c_str()); ++i) {
    if (read(sent, &byte, 1) != 1 || write(answered, &byte, 1) != 1) return 9;
  }
  note("rank " + std::to_string(group.get_rank()) + " is done");
  return 0;
}

int logs(Group& group) {
  log_info("information of rank " + std::to_string(group.get_rank()));
  log_warning("worry of rank " + std::to_string(group.get_rank()));
  std::cerr << "cry of rank " << group.get_rank() << std::endl;
  group.synchronize();
  return 0;
}

int act(const std::shared_ptr<Group>& group) {
  const std::string action = argument(0);
  if (action == "exchange") return exchange(*group);
  if (action == "fail") return fail(*group);
  if (action == "work") return work(*group);
  if (action == "logs") return logs(*group);
  if (action == "wait_signal") return wait_signal(*group);
  if (action == "logs_and_exchange") {
    log_warning("worry of rank " + std::to_string(group->get_rank()));
    int children = 0;
    std::ifstream list("/proc/self/task/" + std::to_string(getpid()) + "/children");
    for (int pid = 0; list >> pid;) ++children;
    note("children " + std::to_string(children));
    return exchange(*group);
  }
  if (action == "polite") return polite(*group);
  if (action == "disagree") {
    if (group->get_rank() == 0) group->synchronize();
    group->gather(1);
    return 0;
  }
  if (action == "rebuilds") {  // and fails in the first start
    if (group->generation() > 0) return exchange(*group);
    group->rebuild();
    group->synchronize();
    throw FormatError("enough");
  }
  if (action == "half_listens") {  // rank 1 does not care for SIGINT
    if (group->get_rank() == 1) signal(SIGINT, SIG_IGN);
    group->synchronize();
    if (group->get_rank() == 0) say("ready");
    stay();
  }
  if (action == "read") {
    char bytes[16];
    note("rank " + std::to_string(group->get_rank()) + " read " + std::to_string(read(STDIN_FILENO, bytes, sizeof bytes)));
    return 0;
  }
  if (action == "cores") {
    note("rank " + std::to_string(group->get_rank()) + " has " + std::to_string(at::get_num_threads()));
    return 0;
  }
  if (action == "early_end") {  // all but rank 1 end; it stops itself
    group->synchronize();
    if (group->get_rank() == 1) raise(SIGSTOP);
    return 0;
  }
  if (action == "stubborn") {  // rank 0 fails, the others do not care for SIGTERM
    signal(SIGTERM, SIG_IGN);
    group->synchronize();
    if (group->get_rank() == 0) throw FormatError("enough");
    stay();
  }
  if (action == "agree") {
    require_agreement(*group, "config", {{"SOLVER.BASE_LR", group->get_rank() == 2 ? 0.5 : 0.1}, {"SEED", 3}});
    return 0;
  }
  throw ConfigError("no action " + action);
}

}  // namespace

int main(int argc, char** argv) {
  LaunchOptions options;
  int next = 1;
  std::map<std::string, std::string> given;
  for (; next + 1 < argc && std::string(argv[next]).starts_with("--"); next += 2) given[argv[next]] = argv[next + 1];
  words.assign(argv + next, argv + argc);
  const auto number = [&](const char* name, int otherwise) {
    return given.contains(name) ? std::atoi(given[name].c_str()) : otherwise;
  };
  options.num_processes = number("--processes", 1);
  options.num_machines = number("--machines", 1);
  options.machine_rank = number("--machine-rank", 0);
  options.max_restarts = number("--restarts", 0);
  options.check_order = number("--check-order", 0) != 0;
  const auto time = [&](const char* name, long long otherwise) {
    return std::chrono::milliseconds(given.contains(name) ? std::atoll(given[name].c_str()) : otherwise);
  };
  options.timeout = time("--timeout", 30000);
  options.grace_time = time("--grace", 20000);
  if (given.contains("--url")) options.dist_url = given["--url"];
  if (given.contains("--logs")) options.log_folder = given["--logs"];
  std::thread thread;
  if (argument(0) == "thread") thread = std::thread(stay);
  try {
    const int status = launch(act, options);
    std::cout << "launch returned " << status << std::endl;
    return status;
  } catch (const RankError& error) {
    std::cout << "RankError of rank " << error.rank() << ": " << error.what() << std::endl;
    _exit(error.status());
  } catch (const Error& error) {
    std::cout << "Error: " << error.what() << std::endl;
    _exit(1);
  }
}

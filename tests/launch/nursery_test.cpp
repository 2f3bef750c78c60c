// Signals, and what is left of a run whose launcher, nursery or ranks are stopped or killed.
#include <tests/launch/program.hpp>

#include <sys/prctl.h>
#include <sys/stat.h>

#include <thread>

namespace treadle {
namespace {

TEST(Launch, NoDescendantOutlivesTheRun) {
  const Program program;
  RunningProcess process(Program::words({"--processes", "2", "work", program.file, "1"}), program.environment());
  process.wait_for("ready 0");
  const auto ranks = program.noted_pids("rank 1 pid");
  ASSERT_EQ(ranks.size(), 1u);
  EXPECT_EQ(program.noted_pids("descendant").size(), 4u);
  kill(ranks.front(), SIGKILL);
  const ProcessResult result = process.finish();
  EXPECT_EQ(result.status, 137) << result.out;
  EXPECT_TRUE(program.nothing_left());
}

TEST(Launch, NothingOutlivesALauncherThatIsKilled) {
  const Program program;
  RunningProcess process(Program::words({"--processes", "3", "work", program.file, "1"}), program.environment());
  process.wait_for("ready 0");
  process.signal(SIGKILL);
  process.finish();
  EXPECT_TRUE(program.nothing_left());
}

pid_t parent_of(pid_t pid) {
  const std::string text = read_text("/proc/" + std::to_string(pid) + "/stat");
  return std::atoi(text.substr(text.rfind(')') + 4).c_str());
}

TEST(Launch, NothingOutlivesALauncherWhoseNurseryIsStopped) {
  const Program program;
  // The kernel itself wakes a process group that loses its last parent in the session. This one has a new parent there: us.
  prctl(PR_SET_CHILD_SUBREAPER, 1);
  RunningProcess process(Program::words({"--processes", "2", "work", program.file, "1"}), program.environment());
  process.wait_for("ready 0");
  const pid_t nursery = parent_of(program.noted_pids("rank 0 pid").front());
  ASSERT_NE(nursery, process.pid());
  process.signal(SIGSTOP);
  kill(nursery, SIGSTOP);
  process.signal(SIGKILL);
  process.finish();
  EXPECT_TRUE(program.nothing_left());
  prctl(PR_SET_CHILD_SUBREAPER, 0);
  kill(nursery, SIGKILL);
  waitpid(nursery, nullptr, 0);
}

/// Whether the process ends, which is waited for.
bool ends(pid_t pid) {
  const int pidfd = static_cast<int>(syscall(SYS_pidfd_open, pid, 0));
  if (pidfd < 0) return true;
  pollfd source{pidfd, POLLIN, 0};
  const bool ended = poll(&source, 1, 20'000) == 1;
  close(pidfd);
  return ended;
}

TEST(Launch, RanksDieWithTheNurseryWhateverTheLauncherDoes) {
  const Program program;
  RunningProcess process(Program::words({"--processes", "2", "work", program.file, "1"}), program.environment());
  process.wait_for("ready 0");
  const pid_t first = program.noted_pids("rank 0 pid").front(), second = program.noted_pids("rank 1 pid").front();
  process.signal(SIGSTOP);
  kill(parent_of(first), SIGKILL);
  EXPECT_TRUE(ends(first));
  EXPECT_TRUE(ends(second));
  process.signal(SIGCONT);
  EXPECT_EQ(process.finish().status, 1);
  EXPECT_TRUE(program.nothing_left());
}

TEST(Launch, ANurseryThatIsStoppedIsSetGoingAgain) {
  const Program program;
  RunningProcess process(Program::words({"--processes", "2", "work", program.file, "1"}), program.environment());
  process.wait_for("ready 0");
  kill(parent_of(program.noted_pids("rank 0 pid").front()), SIGSTOP);
  process.wait_for("it goes on");
  kill(program.noted_pids("rank 1 pid").front(), SIGKILL);
  EXPECT_EQ(process.finish().status, 137);
  EXPECT_TRUE(program.nothing_left());
}

TEST(Launch, NothingOutlivesANurseryThatIsKilled) {
  const Program program;
  RunningProcess process(Program::words({"--processes", "2", "work", program.file, "1"}), program.environment());
  process.wait_for("ready 0");
  kill(parent_of(program.noted_pids("rank 0 pid").front()), SIGKILL);
  const ProcessResult result = process.finish();
  EXPECT_EQ(result.status, 1);
  EXPECT_TRUE(contains(result.out, "the process that holds the ranks was killed")) << result.out;
  EXPECT_TRUE(program.nothing_left());
}

TEST(Launch, SignalsReachEverybodyOnce) {
  for (const int number : {SIGINT, SIGTERM}) {
    const Program program;
    RunningProcess process(Program::words({"--processes", "3", "wait_signal", program.file, std::to_string(number)}),
                           program.environment());
    process.wait_for("ready");
    process.signal(number);
    EXPECT_EQ(process.finish().status, 128 + number);
    EXPECT_EQ(notes(program.file), (std::vector<std::string>{"rank 0 got 1", "rank 1 got 1", "rank 2 got 1"}));
  }
}

void wait_for_state(pid_t pid, char state) {
  const auto deadline = std::chrono::steady_clock::now() + RunningProcess::kLongEnough;
  for (;;) {
    const std::string text = read_text("/proc/" + std::to_string(pid) + "/stat");
    if (text.at(text.rfind(')') + 2) == state) return;
    ASSERT_LT(std::chrono::steady_clock::now(), deadline) << text;
    std::this_thread::yield();
  }
}

TEST(Launch, CtrlZStopsAllAndAllGoOn) {
  const Program program;
  RunningProcess process(Program::words({"--processes", "2", "work", program.file, "1"}), program.environment());
  process.wait_for("ready 0");
  const pid_t rank = program.noted_pids("rank 1 pid").front();
  process.signal(SIGTSTP);
  wait_for_state(process.pid(), 'T');
  wait_for_state(rank, 'T');
  process.signal(SIGCONT);
  wait_for_state(rank, 'S');
  EXPECT_FALSE(contains(process.out(), "was stopped"));
  kill(rank, SIGKILL);
  EXPECT_EQ(process.finish().status, 137);
  EXPECT_FALSE(contains(process.out(), "was stopped")) << process.out();
}

TEST(Launch, ASignalNeverRestarts) {
  const Program program;
  RunningProcess process(Program::words({"--processes", "2", "--restarts", "3", "work", program.file, "9"}),
                         program.environment());
  process.wait_for("ready 0");
  process.signal(SIGINT);  // nobody handles it
  EXPECT_EQ(process.finish().status, 130);
  EXPECT_FALSE(contains(process.out(), "started again"));
  EXPECT_TRUE(contains(process.out(), "launch returned 130")) << process.out();  // nobody failed
  EXPECT_TRUE(program.nothing_left());
}

TEST(Launch, WhoDoesNotListenToCtrlCIsKilledAfterTheGraceTime) {
  const Program program;
  RunningProcess process(Program::words({"--processes", "2", "--grace", "300", "--timeout", "600000", "half_listens"}),
                         program.environment());
  process.wait_for("ready");
  process.signal(SIGINT);
  EXPECT_EQ(process.finish().status, 130) << process.out();
  EXPECT_TRUE(program.nothing_left());
}

/// A named pipe, open at both ends here, so that it ends with this process alone.
class Fifo {
 public:
  explicit Fifo(std::string path) : path_(std::move(path)) {
    if (mkfifo(path_.c_str(), 0600) != 0) throw std::runtime_error("mkfifo failed");
    end_ = open(path_.c_str(), O_RDWR | O_CLOEXEC);
  }
  ~Fifo() { close(end_); }
  Fifo(const Fifo&) = delete;
  Fifo& operator=(const Fifo&) = delete;
  const std::string& path() const noexcept { return path_; }
  bool put() const { return write(end_, "x", 1) == 1; }
  bool take() const {
    pollfd source{end_, POLLIN, 0};
    char byte = 0;
    return poll(&source, 1, 20'000) == 1 && read(end_, &byte, 1) == 1;
  }

 private:
  std::string path_;
  int end_;
};

// Rank 1 is busy for far longer than it takes to kill it.
void expect_time_to_end(std::vector<std::string> options) {
  const Program program;
  const Fifo there(program.folder / "there"), back(program.folder / "back");
  constexpr int kTimes = 5000;
  for (const std::string& word : {std::string("polite"), program.file, there.path(), back.path(), std::to_string(kTimes)})
    options.push_back(word);
  RunningProcess process(Program::words(options), program.environment());
  process.wait_for("rank 1 tidies up");
  for (int i = 0; i < kTimes; ++i) ASSERT_TRUE(there.put() && back.take()) << i;
  EXPECT_EQ(process.finish().status, 1);
  EXPECT_TRUE(contains(process.out(), "RankError of rank 0: rank 0: enough")) << process.out();
  EXPECT_EQ(notes(program.file), std::vector<std::string>{"rank 1 is done"});
}

TEST(Launch, RanksGetTheGraceTimeToEnd) { expect_time_to_end({"--processes", "2"}); }

TEST(Launch, ALimitMayBeTheLongestThereIs) {
  const std::string longest = std::to_string(std::chrono::milliseconds::max().count());
  expect_time_to_end({"--processes", "2", "--grace", longest, "--timeout", longest});
}

TEST(Launch, ABrokenPipeEndsNobody) {
  const Program program;
  RunningProcess process(Program::words({"--processes", "2", "--restarts", "1", "work", program.file, "1"}),
                         program.environment());
  process.wait_for("ready 0");
  process.signal(SIGPIPE);
  const pid_t rank = program.noted_pids("rank 1 pid").front();
  kill(program.noted_pids("rank 0 pid").front(), SIGPIPE);
  kill(rank, SIGPIPE);
  kill(rank, SIGKILL);
  EXPECT_EQ(process.finish().status, 0) << process.out();
  EXPECT_TRUE(contains(process.out(), "rank 1: killed by signal 9 (SIGKILL); all ranks are started again")) << process.out();
  EXPECT_TRUE(program.nothing_left());
}

}  // namespace
}  // namespace treadle

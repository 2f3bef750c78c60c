// Signals, and what is left of a run whose launcher, nursery or ranks are stopped or killed.
#include <tests/launch/program.hpp>

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
  RunningProcess process(Program::words({"--processes", "2", "work", program.file, "1"}), program.environment());
  process.wait_for("ready 0");
  const pid_t nursery = parent_of(program.noted_pids("rank 0 pid").front());
  ASSERT_NE(nursery, process.pid());
  process.signal(SIGSTOP);
  kill(nursery, SIGSTOP);
  process.signal(SIGKILL);
  process.finish();
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
  EXPECT_TRUE(program.nothing_left());
}

}  // namespace
}  // namespace treadle

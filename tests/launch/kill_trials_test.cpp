// Trials: at a random moment a random rank is killed with -9 or stopped, or the launcher is killed. Every trial ends as promised:
// the ranks start again and end well, or the error names the rank; nothing hangs, and no process is left.
// Six; more by tools/stress.py.
#include <tests/launch/program.hpp>
#include <tests/support/trials.hpp>

#include <iostream>
#include <random>

namespace treadle {
namespace {

constexpr int kProcesses = 3;

/// The process of local rank `rank`; 0 when there is none (yet).
pid_t find_rank(const Program& program, int rank) {
  for (const pid_t pid : processes_marked(program.mark.first + "=" + program.mark.second)) {
    if (read_text("/proc/" + std::to_string(pid) + "/comm") == "treadle:" + std::to_string(rank) + "\n" &&
        !contains(notes_of(program), "descendant " + std::to_string(pid) + "\n")) {
      return pid;
    }
  }
  return 0;
}

enum class Blow { kill_rank, stop_rank, kill_launcher };

void make_trial(std::mt19937& random, int trial) {
  const Program program;
  const auto blow = static_cast<Blow>(trial % 3);
  const bool restarts = random() % 2 == 0;
  const int rank = static_cast<int>(random() % kProcesses);
  const auto moment = std::chrono::milliseconds(random() % 1200);
  const std::string told = "trial " + std::to_string(trial) + ": blow " + std::to_string(trial % 3) + ", rank " +
                           std::to_string(rank) + ", after " + std::to_string(moment.count()) + " ms, restarts " +
                           std::to_string(restarts) + "\n";
  RunningProcess process(Program::words({"--processes", std::to_string(kProcesses), "--restarts", restarts ? "1" : "0",
                                         "--timeout", "6000", "--grace", "2000", "work", program.file, "1"}),
                         program.environment());
  process.read_until(std::chrono::steady_clock::now() + moment);
  if (blow == Blow::kill_launcher) {
    process.signal(SIGKILL);
    process.finish();
    EXPECT_TRUE(program.nothing_left()) << told;
    return;
  }
  pid_t target = find_rank(program, rank);
  if (target == 0) {
    process.wait_for("ready 0");
    target = find_rank(program, rank);
  }
  ASSERT_GT(target, 0) << told << process.out();
  kill(target, blow == Blow::kill_rank ? SIGKILL : SIGSTOP);
  const ProcessResult result = process.finish();
  if (restarts) {
    EXPECT_EQ(result.status, 0) << told << result.out << result.err;
    EXPECT_TRUE(contains(result.out, "all ranks are started again (1 of 1 restarts)")) << told << result.out;
  } else {
    const std::size_t error = result.out.find("RankError of rank ");
    ASSERT_NE(error, std::string::npos) << told << result.out << result.err;
    const std::string name = "rank " + std::to_string(rank);
    const std::string expected = blow == Blow::kill_rank ? "RankError of " + name + ": " + name + ": killed by signal 9" : name;
    EXPECT_TRUE(contains(result.out.substr(error + (blow == Blow::kill_rank ? 0 : 10)), expected)) << told << result.out;
    EXPECT_EQ(result.status, blow == Blow::kill_rank ? 137 : 1) << told << result.out;
  }
  EXPECT_TRUE(program.nothing_left()) << told;
}

TEST(KillTrials, EndAsPromisedWithoutHangsAndOrphans) {
  std::mt19937 random(trial_seed());
  for (int trial = 0; trial < trials(6); ++trial) make_trial(random, trial);
}

}  // namespace
}  // namespace treadle

// Trials: at a random moment of a training run on three ranks one of them is killed with -9 or stopped, or the launcher is
// killed. Every trial ends as promised: all start again, or the error names the rank within the time limit; nothing hangs, no
// process is left, and the run, or that which resumes it, ends with the bits of an undisturbed one. Three; more by
// tools/stress.py.
#include <tests/app/command.hpp>
#include <tests/support/no_thread_sanitizer.hpp>
#include <tests/support/running_process.hpp>
#include <tests/support/trials.hpp>
#include <treadle/checkpoint/file.hpp>

#include <gtest/gtest.h>

#include <random>

namespace treadle {
namespace {

using Clock = std::chrono::steady_clock;

constexpr int kProcesses = 3;
constexpr std::chrono::seconds kTimeLimit{4};

bool contains(const std::string& text, const std::string& part) { return text.find(part) != std::string::npos; }

std::vector<std::string> settings(std::vector<std::string> more) {
  more.insert(more.end(),
              {"--num-processes", std::to_string(kProcesses), "--dist-timeout", std::to_string(kTimeLimit.count()),
               "SOLVER.MAX_ITER", "60", "SOLVER.CHECKPOINT_PERIOD", "7", "SOLVER.IMS_PER_BATCH", "12", "TEST.EVAL_PERIOD", "20"});
  return more;
}

struct Training {
  Command command;
  std::pair<std::string, std::string> mark = new_mark();

  RunningProcess start(const std::vector<std::string>& more) const {
    return RunningProcess(command.words(settings(more)), std::map<std::string, std::string>{mark});
  }
  Value weights() const { return load_checkpoint_file(command.output + "/model_final.pth").as_dict().at("model"); }
  /// The process of rank `rank`; 0 when there is none.
  pid_t rank(int rank) const {
    for (const pid_t pid : processes_marked(mark.first + "=" + mark.second)) {
      if (read_text("/proc/" + std::to_string(pid) + "/comm") == "treadle:" + std::to_string(rank) + "\n") return pid;
    }
    return 0;
  }
};

enum class Blow { kill_rank, stop_rank, kill_launcher };
const char* name_of(Blow blow) {
  return blow == Blow::kill_rank ? "kill a rank" : blow == Blow::stop_rank ? "stop a rank" : "kill the launcher";
}

struct Trial {
  Blow blow;
  bool restarts;
  int rank;
  std::chrono::milliseconds moment;

  std::string text() const {
    return std::string(name_of(blow)) + ", rank " + std::to_string(rank) + ", after " + std::to_string(moment.count()) +
           " ms, restarts " + std::to_string(restarts) + "\n";
  }
};

/// What a run that was not started again must say and return.
void expect_named(const Trial& trial, const ProcessResult& result) {
  const std::string name = "rank " + std::to_string(trial.rank);
  if (trial.blow == Blow::kill_rank) {
    EXPECT_EQ(result.status, 137) << trial.text() << result.out << result.err;
    EXPECT_TRUE(contains(result.err, name + ": killed by signal 9")) << trial.text() << result.err;
  } else {
    EXPECT_EQ(result.status, 1) << trial.text() << result.out << result.err;
    EXPECT_TRUE(contains(result.err, name)) << trial.text() << result.err;
  }
}

void make_trial(const Trial& trial, const Value& undisturbed) {
  const Training run;
  RunningProcess process = run.start({"--max-restarts", trial.restarts ? "1" : "0"});
  process.read_until(Clock::now() + trial.moment);
  pid_t target = trial.blow == Blow::kill_launcher ? process.pid() : run.rank(trial.rank);
  // The ranks may not have been forked yet.
  for (int wait = 0; target == 0 && wait < 200 && !contains(process.out(), "Trained 60 iterations"); ++wait) {
    process.read_until(Clock::now() + std::chrono::milliseconds(10));
    target = run.rank(trial.rank);
  }
  if (target != 0) kill(target, trial.blow == Blow::stop_rank ? SIGSTOP : SIGKILL);
  const auto start = Clock::now();
  // A rank that has done its part already is not missed.
  const ProcessResult result = process.finish(std::chrono::minutes(2));
  const bool started_again = contains(result.out, "all ranks are started again (1 of 1 restarts)");
  const bool whole = contains(result.out, "Trained 60 iterations");
  if (trial.blow == Blow::kill_launcher) {
    EXPECT_TRUE(result.signal == SIGKILL || whole) << trial.text() << result.out << result.err;
  } else if (trial.restarts) {
    EXPECT_EQ(result.status, 0) << trial.text() << result.out << result.err;
    EXPECT_TRUE(started_again || whole) << trial.text() << result.out;
  } else if (result.status != 0) {
    expect_named(trial, result);
  } else {
    EXPECT_TRUE(whole) << trial.text() << result.out << result.err;
  }
  // The limit, the grace time of those that are told to end, and a generous while for a restarted run on a busy machine.
  EXPECT_LT(Clock::now() - start, kTimeLimit + std::chrono::seconds(10 + 30)) << trial.text();
  EXPECT_TRUE(none_left(run.mark)) << trial.text();
  if (result.status != 0) {
    RunningProcess again = run.start({"--resume"});
    const ProcessResult resumed = again.finish(std::chrono::minutes(2));
    ASSERT_EQ(resumed.status, 0) << trial.text() << resumed.out << resumed.err;
  }
  EXPECT_TRUE(identical(run.weights(), undisturbed)) << trial.text();
  EXPECT_TRUE(none_left(run.mark)) << trial.text();
}

TEST(DistributedTrials, EndAsPromisedAndInTheSameBits) {
  const Training whole;
  const auto start = Clock::now();
  {
    RunningProcess process = whole.start({});
    const ProcessResult result = process.finish();
    ASSERT_EQ(result.status, 0) << result.out << result.err;
  }
  const auto length = std::chrono::duration_cast<std::chrono::milliseconds>(Clock::now() - start).count();
  const Value undisturbed = whole.weights();
  std::mt19937 random(trial_seed());
  for (int trial = 0; trial < trials(3); ++trial) {
    const auto blow = static_cast<Blow>(trial % 3);
    const bool restarts = random() % 2 == 0;
    const int rank = static_cast<int>(random() % kProcesses);
    const std::chrono::milliseconds moment(random() % static_cast<unsigned>(length));
    make_trial({.blow = blow, .restarts = restarts, .rank = rank, .moment = moment}, undisturbed);
    if (HasFatalFailure()) return;
  }
}

}  // namespace
}  // namespace treadle

// launch() with real processes: what each rank sees, how failures and restarts go, where output goes.
#include <tests/launch/program.hpp>
#include <treadle/launch/held_port.hpp>

#include <thread>

namespace treadle {
namespace {

TEST(Launch, EveryRankKnowsItsPlaceAndHearsTheOthers) {
  const Program program;
  const ProcessResult result = program.run({"--processes", "3", "exchange", program.file});
  EXPECT_EQ(result.status, 0) << result.out << result.err;
  EXPECT_EQ(notes(program.file), (std::vector<std::string>{"rank 0/3 local 0/3 generation 0 heard 0 10 20 locally 0 10 20",
                                                           "rank 1/3 local 1/3 generation 0 heard 0 10 20 locally 0 10 20",
                                                           "rank 2/3 local 2/3 generation 0 heard 0 10 20 locally 0 10 20"}));
  EXPECT_TRUE(program.nothing_left());
}

TEST(Launch, TwoMachinesOnTheLoopbackMakeOneGroup) {
  const Program program;
  const std::string url = "tcp://127.0.0.1:" + std::to_string(find_free_port().port());
  const auto machine = [&](const std::string& rank) {
    return Program::words(
        {"--processes", "2", "--machines", "2", "--machine-rank", rank, "--url", url, "exchange", program.file});
  };
  RunningProcess second(machine("1"), program.environment());
  RunningProcess first(machine("0"), program.environment());
  EXPECT_EQ(first.finish().status, 0);
  EXPECT_EQ(second.finish().status, 0);
  EXPECT_EQ(notes(program.file), (std::vector<std::string>{"rank 0/4 local 0/2 generation 0 heard 0 10 20 30 locally 0 10",
                                                           "rank 1/4 local 1/2 generation 0 heard 0 10 20 30 locally 0 10",
                                                           "rank 2/4 local 0/2 generation 0 heard 0 10 20 30 locally 20 30",
                                                           "rank 3/4 local 1/2 generation 0 heard 0 10 20 30 locally 20 30"}));
}

TEST(Launch, AFileServesAsMeetingPointAndGoesAway) {
  const Program program;
  const std::string meet = program.folder / "meet";
  for (const char* machines : {"1", "2"}) {
    const auto machine = [&](const std::string& rank) {
      return Program::words({"--processes", "2", "--machines", machines, "--machine-rank", rank, "--url", "file://" + meet,
                             "exchange", program.file});
    };
    RunningProcess first(machine("0"), program.environment());
    if (*machines == '2') {
      RunningProcess second(machine("1"), program.environment());
      EXPECT_EQ(second.finish().status, 0) << second.out();
    }
    EXPECT_EQ(first.finish().status, 0) << first.out();
    EXPECT_FALSE(std::filesystem::exists(meet));
  }
  EXPECT_EQ(notes(program.file).size(), 6u);
}

TEST(Launch, AFileOfAnotherRunIsRefused) {
  const Program program;
  write_text(program.folder / "meet", "");
  const ProcessResult result =
      program.run({"--processes", "2", "--url", "file://" + (program.folder / "meet"), "exchange", program.file});
  EXPECT_EQ(result.status, 1);
  EXPECT_TRUE(contains(result.out, "another run uses it")) << result.out;
  EXPECT_TRUE(std::filesystem::exists(program.folder / "meet"));
}

TEST(Launch, TheEnvironmentTellsTheAddress) {
  const Program program;
  const std::string port = std::to_string(find_free_port().port());
  const ProcessResult result = program.run({"--processes", "2", "--url", "env://", "exchange", program.file},
                                           {{"MASTER_ADDR", "127.0.0.1"}, {"MASTER_PORT", port}});
  EXPECT_EQ(result.status, 0) << result.out;
  EXPECT_EQ(notes(program.file).size(), 2u);
}

struct End {
  const char* how;
  int status;
  const char* message;
};

TEST(Launch, TheFirstToFailDecidesAndItsErrorIsShown) {
  for (const End& end : {End{"exception", 1, "RankError of rank 1: rank 1: the cat sat on the keyboard"},
                         End{"kill", 137, "RankError of rank 1: rank 1: killed by signal 9 (SIGKILL)"},
                         End{"abort", 134, "RankError of rank 1: rank 1: killed by signal 6 (SIGABRT)"},
                         End{"exit", 5, "RankError of rank 1: rank 1: the process ended by itself, with exit status 5"},
                         End{"exit_0", 1, "RankError of rank 1: rank 1: the process ended by itself, with exit status 0"},
                         End{"return", 7, "launch returned 7"}}) {
    const Program program;
    const ProcessResult result = program.run({"--processes", "3", "fail", end.how, "1"});
    EXPECT_EQ(result.status, end.status) << end.how << result.out;
    EXPECT_TRUE(contains(result.out, end.message)) << end.how << result.out;
    EXPECT_FALSE(contains(result.out, "signal 15")) << end.how << result.out;
    EXPECT_EQ(contains(result.out, "The end of what rank 1 wrote:\n    the last words of rank 1"),
              std::string(end.how) != "return")
        << end.how << result.out;
    EXPECT_TRUE(program.nothing_left());
  }
}

TEST(Launch, ARankThatIsStoppedIsNamedWithinTheTimeLimit) {
  const Program program;
  const ProcessResult result = program.run({"--processes", "3", "--timeout", "4000", "--grace", "600000", "fail", "stop", "2"});
  EXPECT_EQ(result.status, 1) << result.out;
  EXPECT_TRUE(contains(result.out, "rank 2 was stopped by signal 19 (SIGSTOP); the others wait for it")) << result.out;
  EXPECT_TRUE(contains(result.out.substr(result.out.find("RankError")), "(rank 2 was stopped by signal 19 (SIGSTOP))"))
      << result.out;
  EXPECT_TRUE(program.nothing_left());
}

TEST(Launch, ARankThatStopsWhenTheOthersHaveEndedIsNamedToo) {
  const Program program;
  const ProcessResult result = program.run({"--processes", "2", "--timeout", "3000", "early_end"});
  EXPECT_EQ(result.status, 1);
  EXPECT_TRUE(contains(result.out, "RankError of rank 1: rank 1: did not end within 3 s after the others")) << result.out;
  EXPECT_TRUE(program.nothing_left());
}

TEST(Launch, ThoseThatDoNotListenAreKilledAfterTheGraceTime) {
  const Program program;
  const ProcessResult result = program.run({"--processes", "3", "--grace", "300", "--timeout", "600000", "stubborn"});
  EXPECT_TRUE(contains(result.out, "RankError of rank 0: rank 0: enough")) << result.out;
  EXPECT_TRUE(program.nothing_left());
}

TEST(Launch, TheLastMachineTellsTheOthersWhatWentWrong) {
  const Program program;
  const std::string url = "tcp://127.0.0.1:" + std::to_string(find_free_port().port());
  const auto machine = [&](const std::string& rank) {
    return Program::words({"--processes", "2", "--machines", "2", "--machine-rank", rank, "--url", url, "fail", "kill", "3"});
  };
  RunningProcess first(machine("0"), program.environment());
  RunningProcess second(machine("1"), program.environment());
  for (RunningProcess* each : {&first, &second}) {
    const ProcessResult result = each->finish();
    EXPECT_EQ(result.status, 137) << result.out;
    EXPECT_TRUE(contains(result.out, "RankError of rank 3: rank 3: killed by signal 9")) << result.out;
  }
  EXPECT_TRUE(program.nothing_left());
}

TEST(Launch, AllStartAgainAfterAFailureWithANewGeneration) {
  const Program program;
  RunningProcess process(Program::words({"--processes", "2", "--restarts", "2", "work", program.file, "2"}),
                         program.environment());
  process.wait_for("ready 0");
  const auto before = program.noted_pids("rank 1 pid");
  kill(before.back(), SIGKILL);
  process.wait_for("ready 1");
  for (const pid_t pid : program.noted_pids("rank 1 pid")) {
    if (pid != before.back()) kill(pid, SIGKILL);
  }
  const ProcessResult result = process.finish();
  EXPECT_EQ(result.status, 0) << result.out;
  EXPECT_TRUE(contains(result.out, "rank 1: killed by signal 9 (SIGKILL); all ranks are started again (1 of 2 restarts)"))
      << result.out;
  EXPECT_TRUE(contains(result.out, "(2 of 2 restarts)")) << result.out;
  EXPECT_TRUE(program.nothing_left());
}

TEST(Launch, OneProcessCanBeRestartedToo) {
  const Program program;
  RunningProcess process(Program::words({"--restarts", "1", "work", program.file, "1"}), program.environment());
  process.wait_for("ready 0");
  kill(program.noted_pids("rank 0 pid").front(), SIGKILL);
  EXPECT_EQ(process.finish().status, 0) << process.out();
  EXPECT_TRUE(program.nothing_left());
}

TEST(Launch, RestartsEndAndWrongSettingsAreNotTriedAgain) {
  const Program program;
  const ProcessResult often = program.run({"--processes", "2", "--restarts", "2", "fail", "exception", "1"});
  EXPECT_TRUE(contains(often.out, "rank 1: the cat sat on the keyboard (after 2 restarts)")) << often.out;
  const ProcessResult once = program.run({"--processes", "2", "--restarts", "2", "fail", "settings", "1"});
  EXPECT_TRUE(contains(once.out, "RankError of rank 1: rank 1: SOLVER.BASE_LR is a fish\n")) << once.out;
}

TEST(Launch, TwoMachinesRestartTogether) {
  const Program program;
  const std::string url = "tcp://127.0.0.1:" + std::to_string(find_free_port().port());
  const auto machine = [&](const std::string& rank) {
    return Program::words({"--processes", "1", "--machines", "2", "--machine-rank", rank, "--url", url, "--restarts", "1", "work",
                           program.file, "1"});
  };
  RunningProcess first(machine("0"), program.environment());
  RunningProcess second(machine("1"), program.environment());
  first.wait_for("ready 0");
  kill(program.noted_pids("rank 1 pid").front(), SIGKILL);
  EXPECT_EQ(first.finish().status, 0) << first.out();
  EXPECT_EQ(second.finish().status, 0) << second.out();
  EXPECT_TRUE(program.nothing_left());
}

TEST(Launch, OutputOfOtherRanksGoesToFilesAndWarningsToTheTerminal) {
  const Program program;
  const std::string logs = program.folder / "logs";
  const ProcessResult result = program.run({"--processes", "3", "--logs", logs, "logs"});
  EXPECT_EQ(result.status, 0);
  EXPECT_TRUE(contains(result.out, "information of rank 0"));
  EXPECT_FALSE(contains(result.out, "information of rank 1")) << result.out;
  EXPECT_TRUE(contains(result.out, "[rank 2] WARNING: worry of rank 2\n")) << result.out;
  EXPECT_FALSE(contains(result.out, "[rank 0]"));
  EXPECT_EQ(result.err, "cry of rank 0\n");
  EXPECT_FALSE(std::filesystem::exists(logs + "/rank_0.out"));
  for (const std::string rank : {"1", "2"}) {
    const std::string text = read_text(logs + "/rank_" + rank + ".out");
    EXPECT_TRUE(contains(text, "information of rank " + rank)) << text;
    EXPECT_TRUE(contains(text, "worry of rank " + rank)) << text;
    EXPECT_TRUE(contains(text, "cry of rank " + rank)) << text;
  }
}

TEST(Launch, TheEndOfALogIsThatOfThisRun) {
  const Program program;
  const std::string logs = program.folder / "logs";
  program.run({"--processes", "2", "--logs", logs, "logs"});
  const ProcessResult result = program.run({"--processes", "2", "--logs", logs, "fail", "exception", "1"});
  EXPECT_TRUE(contains(result.out, "The end of what rank 1 wrote (\"" + logs + "/rank_1.out\"):\n    the last words of rank 1\n"))
      << result.out;
  EXPECT_TRUE(contains(read_text(logs + "/rank_1.out"), "cry of rank 1")) << "the file of the earlier run goes on";
}

TEST(Launch, RanksReadNothingFromTheStdinOfTheLauncher) {
  int typed[2];
  ASSERT_EQ(pipe2(typed, O_CLOEXEC), 0);
  ASSERT_EQ(write(typed[1], "typed", 5), 5);
  close(typed[1]);
  const int before = dup(STDIN_FILENO);
  dup2(typed[0], STDIN_FILENO);
  const Program program;
  EXPECT_EQ(program.run({"--processes", "2", "read", program.file}).status, 0);
  dup2(before, STDIN_FILENO);
  for (int end : {before, typed[0]}) close(end);
  EXPECT_EQ(notes(program.file), (std::vector<std::string>{"rank 0 read 0", "rank 1 read 0"}));
}

TEST(Launch, RanksShareTheCoresUnlessTheUserSaysHowMany) {
  unsetenv("OMP_NUM_THREADS");
  const int share = std::max(1, static_cast<int>(std::thread::hardware_concurrency()) / 2);
  const auto expected = [](int threads) {
    return std::vector<std::string>{"rank 0 has " + std::to_string(threads), "rank 1 has " + std::to_string(threads)};
  };
  const Program shared, told;
  EXPECT_EQ(shared.run({"--processes", "2", "cores", shared.file}).status, 0);
  EXPECT_EQ(notes(shared.file), expected(share));
  EXPECT_EQ(told.run({"--processes", "2", "cores", told.file}, {{"OMP_NUM_THREADS", std::to_string(share + 1)}}).status, 0);
  EXPECT_EQ(notes(told.file), expected(share + 1));
}

TEST(Launch, CheckOrderTellsTheCallsBefore) {
  for (const bool checks : {true, false}) {
    const Program program;
    const ProcessResult result = program.run({"--processes", "2", "--check-order", checks ? "1" : "0", "disagree"});
    EXPECT_EQ(result.status, 1);
    EXPECT_TRUE(contains(result.out, "the ranks made different calls: rank 0 called synchronize")) << result.out;
    EXPECT_EQ(contains(result.out, "; before that this rank called connect (for 2 ranks), all_gather"), checks) << result.out;
  }
}

TEST(Launch, RanksThatDisagreeAreNamed) {
  const Program program;
  const ProcessResult result = program.run({"--processes", "3", "agree"});
  EXPECT_EQ(result.status, 1);
  EXPECT_TRUE(
      contains(result.out, "rank 2 was started with another config than rank 0: SOLVER.BASE_LR is 0.5 there and 0.1 on rank 0\n"))
      << result.out;
}

}  // namespace
}  // namespace treadle

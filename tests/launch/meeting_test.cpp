// Where processes meet: addresses that are wrong, machines that do not come, ranks that something else has started.
#include <tests/launch/program.hpp>
#include <treadle/launch/held_port.hpp>

#include <torch/csrc/distributed/c10d/TCPStore.hpp>

namespace treadle {
namespace {

std::map<std::string, std::string> torchrun_variables(int rank, const std::string& port) {
  return {{"RANK", std::to_string(rank)}, {"WORLD_SIZE", "2"},          {"LOCAL_RANK", std::to_string(rank)},
          {"LOCAL_WORLD_SIZE", "2"},      {"MASTER_ADDR", "127.0.0.1"}, {"MASTER_PORT", port}};
}
std::map<std::string, std::string> srun_variables(int rank, const std::string& job) {
  return {{"SLURM_PROCID", std::to_string(rank)},
          {"SLURM_STEP_NUM_TASKS", "2"},
          {"SLURM_LOCALID", std::to_string(rank)},
          {"SLURM_NODEID", "0"},
          {"SLURM_STEP_TASKS_PER_NODE", "2"},
          {"SLURM_STEP_NODELIST", "localhost"},
          {"SLURM_JOB_ID", job},
          {"SLURM_STEP_ID", "0"}};
}
std::map<std::string, std::string> mpirun_variables(int rank, const std::string& run = "1465909249") {
  return {{"OMPI_COMM_WORLD_RANK", std::to_string(rank)},
          {"OMPI_COMM_WORLD_SIZE", "2"},
          {"OMPI_COMM_WORLD_LOCAL_RANK", std::to_string(rank)},
          {"OMPI_COMM_WORLD_LOCAL_SIZE", "2"},
          {"PMIX_NAMESPACE", run}};
}

TEST(StartedByOthers, RanksFindEachOtherAndNothingIsSpawned) {
  const std::string port = std::to_string(find_free_port().port());
  const std::string job = std::to_string(getpid());
  for (const std::string by : {"torchrun", "srun", "mpirun"}) {
    const Program program;
    const auto start = [&](int rank) {
      const auto variables = by == "torchrun" ? torchrun_variables(rank, port)
                             : by == "srun"   ? srun_variables(rank, job)
                                              : mpirun_variables(rank);
      std::vector<std::string> words = {"logs_and_exchange", program.file};
      if (by == "mpirun") words.insert(words.begin(), {"--url", "tcp://127.0.0.1:" + port});
      return std::make_unique<RunningProcess>(Program::words(words), program.environment(variables));
    };
    const auto second = start(1), first = start(0);
    const ProcessResult end = first->finish(), other = second->finish();
    EXPECT_EQ(end.status, 0) << by << end.out << end.err;
    EXPECT_EQ(other.status, 0) << by << other.out << other.err;
    EXPECT_EQ(notes(program.file),
              (std::vector<std::string>{"children 0", "children 0", "rank 0/2 local 0/2 generation 0 heard 0 10 locally 0 10",
                                        "rank 1/2 local 1/2 generation 0 heard 0 10 locally 0 10"}));
    EXPECT_TRUE(contains(other.out, "[rank 1] WARNING: worry of rank 1")) << other.out;
  }
}

/// As torchrun does when it is given no port: its agent keeps the store, and the run has a name that no other has.
TEST(StartedByOthers, RanksMeetInTheStoreOfTorchrunsAgent) {
  const Program program;
  c10d::TCPStoreOptions agent;
  agent.isServer = true;
  agent.waitWorkers = false;
  const c10d::TCPStore store("127.0.0.1", agent);
  const auto start = [&](int rank) {
    auto variables = torchrun_variables(rank, std::to_string(store.getPort()));
    variables["TORCHELASTIC_USE_AGENT_STORE"] = "True";
    variables["TORCHELASTIC_RUN_ID"] = "ed4ddb53";
    return std::make_unique<RunningProcess>(Program::words({"--timeout", "20000", "exchange", program.file}),
                                            program.environment(variables));
  };
  const auto second = start(1), first = start(0);
  EXPECT_EQ(first->finish().status, 0) << first->out();
  EXPECT_EQ(second->finish().status, 0) << second->out();
  EXPECT_EQ(notes(program.file).size(), 2u);
}

std::unique_ptr<RunningProcess> start_by_mpirun(const Program& program, int rank, std::vector<std::string> words,
                                                const std::string& run = "1465909249") {
  return std::make_unique<RunningProcess>(Program::words(std::move(words)), program.environment(mpirun_variables(rank, run)));
}

TEST(StartedByOthers, TwoRunsMayMeetInOneFileOneAfterTheOther) {
  const Program program;
  const std::string meet = program.folder / "meet";
  for (const std::string run : {"1", "2"}) {
    const std::vector<std::string> words = {"--url", "file://" + meet, "exchange", program.file};
    const auto second = start_by_mpirun(program, 1, words, run), first = start_by_mpirun(program, 0, words, run);
    EXPECT_EQ(first->finish().status, 0) << first->out();
    EXPECT_EQ(second->finish().status, 0) << second->out();
    EXPECT_FALSE(std::filesystem::exists(meet));
  }
  EXPECT_EQ(notes(program.file).size(), 4u);
}

TEST(StartedByOthers, AFileThatIsThereIsNotMetIn) {
  const Program program;
  const std::string meet = program.folder / "meet";
  write_text(meet, "");
  const auto first = start_by_mpirun(program, 0, {"--url", "file://" + meet, "exchange", program.file});
  EXPECT_EQ(first->finish().status, 1);
  EXPECT_TRUE(contains(first->out(), "another run uses it, or was killed")) << first->out();
  EXPECT_TRUE(std::filesystem::exists(meet));
}

TEST(StartedByOthers, ARankOfAnotherRunIsToldSo) {
  const Program program;
  const std::string url = "tcp://127.0.0.1:" + std::to_string(find_free_port().port());
  const std::vector<std::string> words = {"--url", url, "exchange", program.file};
  const auto first = start_by_mpirun(program, 0, words, "7");
  const auto stranger = start_by_mpirun(program, 1, words, "8");
  EXPECT_EQ(stranger->finish().status, 1);
  EXPECT_TRUE(contains(stranger->out(), "another run meets at " + url + ": mpirun 7 there, mpirun 8 here")) << stranger->out();
  const auto second = start_by_mpirun(program, 1, words, "7");
  EXPECT_EQ(first->finish().status, 0) << first->out();
  EXPECT_EQ(second->finish().status, 0) << second->out();
}

TEST(StartedByOthers, CheckOrderTellsTheCallsBefore) {
  const Program program;
  const std::string url = "tcp://127.0.0.1:" + std::to_string(find_free_port().port());
  const std::vector<std::string> words = {"--check-order", "1", "--url", url, "disagree"};
  const auto second = start_by_mpirun(program, 1, words), first = start_by_mpirun(program, 0, words);
  for (RunningProcess* each : {first.get(), second.get()}) {
    const std::string out = each->finish().out;
    EXPECT_TRUE(contains(out, "the ranks made different calls: rank 0 called synchronize")) << out;
    EXPECT_TRUE(contains(out, "; before that this rank called connect (for 2 ranks), all_gather")) << out;
  }
}

TEST(StartedByOthers, OneThatKillsRankZeroNamesItThoughItKeptTheStore) {
  const Program program;
  const std::string url = "tcp://127.0.0.1:" + std::to_string(find_free_port().port());
  const std::vector<std::string> words = {"--url", url, "fail", "kill", "0"};
  const auto second = start_by_mpirun(program, 1, words), first = start_by_mpirun(program, 0, words);
  EXPECT_EQ(first->finish().status, 137);
  const ProcessResult result = second->finish();
  EXPECT_EQ(result.status, 1);
  EXPECT_TRUE(contains(result.out, "rank 0, which keeps it, has ended or was stopped")) << result.out;
  EXPECT_FALSE(contains(result.err + result.out, "frame #")) << result.err;
}

/// As `srun --distribution=cyclic` places four tasks on two nodes.
TEST(StartedByOthers, RanksDealtOutToNodesInTurnAreAllToldSo) {
  const Program program;
  const std::string url = "tcp://127.0.0.1:" + std::to_string(find_free_port().port());
  std::vector<std::unique_ptr<RunningProcess>> ranks;
  for (int rank = 0; rank < 4; ++rank) {
    auto variables = srun_variables(rank, std::to_string(getpid()));
    variables["SLURM_STEP_NUM_TASKS"] = "4";
    variables["SLURM_STEP_TASKS_PER_NODE"] = "2(x2)";
    variables["SLURM_NODEID"] = std::to_string(rank % 2);
    variables["SLURM_LOCALID"] = std::to_string(rank / 2);
    ranks.push_back(std::make_unique<RunningProcess>(Program::words({"--url", url, "exchange", program.file}),
                                                     program.environment(variables)));
  }
  for (const auto& rank : ranks) {
    const ProcessResult result = rank->finish();
    EXPECT_EQ(result.status, 1) << result.out;
    EXPECT_TRUE(contains(result.out, "rank 1 has local rank 0 of 2: start them with srun --distribution=block")) << result.out;
  }
}

TEST(StartedByOthers, TheErrorOfARankReachesTheOthers) {
  for (const std::string failing : {"0", "1"}) {
    const Program program;
    const std::string url = "tcp://127.0.0.1:" + std::to_string(find_free_port().port());
    const std::vector<std::string> words = {"--url", url, "fail", "exception", failing};
    const auto second = start_by_mpirun(program, 1, words), first = start_by_mpirun(program, 0, words);
    const std::string out = (failing == "0" ? second : first)->finish().out;
    (failing == "0" ? first : second)->finish();
    EXPECT_TRUE(contains(out, "rank " + failing + " gave up: the cat sat on the keyboard")) << out;
  }
}

TEST(Launch, ARestartDoesNotMeetAGroupThatWasRebuilt) {
  const Program program;
  const ProcessResult result = program.run({"--processes", "2", "--restarts", "1", "rebuilds", program.file});
  EXPECT_EQ(result.status, 0) << result.out << result.err;
  EXPECT_EQ(notes(program.file), (std::vector<std::string>{"rank 0/2 local 0/2 generation 1 heard 0 10 locally 0 10",
                                                           "rank 1/2 local 1/2 generation 1 heard 0 10 locally 0 10"}));
}

TEST(StartedByOthers, MpirunNeedsAnAddress) {
  const Program program;
  const ProcessResult result = program.run({"exchange", program.file}, mpirun_variables(0));
  EXPECT_EQ(result.status, 1);
  EXPECT_TRUE(contains(result.out, "--dist-url tcp://HOST:PORT")) << result.out;
}

TEST(StartedByOthers, ManyLaunchersOfManyProcessesAreRefused) {
  const Program program;
  const ProcessResult result = program.run({"--processes", "2", "exchange", program.file}, torchrun_variables(0, "29500"));
  EXPECT_EQ(result.status, 1);
  EXPECT_TRUE(contains(result.out, "torchrun started this process as one of 2")) << result.out;
}

TEST(StartedByOthers, OneLauncherForEachMachineIsNot) {
  const Program program;
  const std::string port = std::to_string(find_free_port().port());
  const auto start = [&](int rank) {
    return std::make_unique<RunningProcess>(Program::words({"--processes", "2", "--machines", "2", "--machine-rank",
                                                            std::to_string(rank), "--url", "env://", "exchange", program.file}),
                                            program.environment(torchrun_variables(rank, port)));
  };
  const auto first = start(0), second = start(1);
  EXPECT_EQ(first->finish().status, 0) << first->out();
  EXPECT_EQ(second->finish().status, 0) << second->out();
  EXPECT_EQ(notes(program.file).size(), 4u);
}

TEST(Meeting, APortInUseIsSaidAtOnce) {
  const Program program;
  const HeldPort busy = find_free_port();
  const std::string url = "tcp://127.0.0.1:" + std::to_string(busy.port());
  const ProcessResult result = program.run({"--processes", "2", "--url", url, "exchange", program.file});
  EXPECT_EQ(result.status, 1);
  EXPECT_TRUE(contains(result.out, "cannot listen on \"" + url + "\": Address already in use")) << result.out;
}

TEST(Meeting, AnAddressThatCannotBeReachedIsShownWithinTheTimeLimit) {
  const std::string closed = "tcp://127.0.0.1:" + std::to_string(find_free_port().port());
  for (const std::string& url : {closed, std::string("tcp://no-such-host.invalid:29500")}) {
    const Program program;
    const ProcessResult result = program.run({"--processes", "2", "--machines", "2", "--machine-rank", "1", "--timeout", "500",
                                              "--url", url, "exchange", program.file});
    EXPECT_EQ(result.status, 1);
    EXPECT_TRUE(contains(result.out, "nothing can be reached at " + url + " within 0.5 s: ")) << result.out;
    EXPECT_TRUE(program.nothing_left());
  }
  const Program program;
  auto variables = torchrun_variables(1, "1");
  variables["MASTER_PORT"] = closed.substr(closed.rfind(':') + 1);
  const ProcessResult result = program.run({"--timeout", "500", "exchange", program.file}, variables);
  EXPECT_EQ(result.status, 1);
  EXPECT_TRUE(contains(result.out, "nothing can be reached at " + closed)) << result.out;
}

TEST(Meeting, AMachineThatWaitedInVainForAFileLeavesNone) {
  const Program program;
  const std::string meet = program.folder / "meet";
  const ProcessResult result = program.run(
      {"--machines", "2", "--machine-rank", "1", "--timeout", "300", "--url", "file://" + meet, "exchange", program.file});
  EXPECT_EQ(result.status, 1);
  EXPECT_TRUE(contains(result.out, "machine 0 did not make the file \"" + meet + "\" within 0.3 s")) << result.out;
  EXPECT_FALSE(std::filesystem::exists(meet)) << "machine 0, come later, is refused";
}

TEST(Meeting, AMachineThatDoesNotComeIsNamedWithinTheTimeLimit) {
  const Program program;
  const std::string url = "tcp://127.0.0.1:" + std::to_string(find_free_port().port());
  const ProcessResult result = program.run(
      {"--processes", "2", "--machines", "2", "--timeout", "3000", "--grace", "0", "--url", url, "exchange", program.file});
  EXPECT_EQ(result.status, 1);
  EXPECT_TRUE(contains(result.out, url)) << result.out;
  EXPECT_TRUE(contains(result.out, "rank 2") || contains(result.out, "ranks 2 and 3") || contains(result.out, "machine 1"))
      << result.out;
  EXPECT_TRUE(program.nothing_left());
}

TEST(Meeting, MachinesWithOtherNumbersAreNamed) {
  const Program program;
  const std::string url = "tcp://127.0.0.1:" + std::to_string(find_free_port().port());
  const auto machine = [&](const std::string& processes, const std::string& rank) {
    return Program::words({"--processes", processes, "--machines", "2", "--machine-rank", rank, "--timeout", "20000", "--grace",
                           "0", "--url", url, "exchange", program.file});
  };
  RunningProcess first(machine("1", "0"), program.environment());
  RunningProcess second(machine("2", "1"), program.environment());
  const ProcessResult result = second.finish();
  EXPECT_EQ(result.status, 1);
  EXPECT_TRUE(contains(result.out,
                       "machine 1 was started for 2 processes on each of 2 machines, 0 restarts; machine 0 for 1 "
                       "processes on each of 2 machines, 0 restarts"))
      << result.out;
  first.signal(SIGTERM);
  EXPECT_EQ(first.finish().status, 143);
}

TEST(Meeting, ARankOfAMachineThatIsTakenIsRefused) {
  const Program program;
  const std::string meet = "file://" + (program.folder / "meet");
  const auto machine = [&](const std::string& rank) {
    return Program::words({"--machines", "3", "--machine-rank", rank, "--timeout", "4000", "--grace", "0", "--url", meet,
                           "exchange", program.file});
  };
  RunningProcess zero(machine("0"), program.environment());
  RunningProcess one(machine("1"), program.environment()), another(machine("1"), program.environment());
  const std::string out = one.finish().out + another.finish().out;
  zero.finish();
  EXPECT_TRUE(contains(out, "machine_rank is 1, which another machine at " + meet + " has taken")) << out;
}

}  // namespace
}  // namespace treadle

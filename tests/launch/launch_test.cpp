#include <launch/dist_url.hpp>
#include <launch/outcome.hpp>
#include <tests/support/fake_group.hpp>
#include <treadle/launch.hpp>

#include <arpa/inet.h>
#include <fmt/format.h>
#include <gtest/gtest.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <filesystem>
#include <iterator>
#include <map>
#include <set>
#include <thread>

namespace treadle {
namespace {

TEST(Launch, RunsOneProcessHereAndPassesItsStatusOn) {
  int calls = 0;
  const pid_t here = getpid();
  const int status = launch([&](std::shared_ptr<Group> group) {
    ++calls;
    EXPECT_EQ(getpid(), here);
    EXPECT_EQ(group->get_world_size(), 1);
    return 7;
  });
  EXPECT_EQ(status, 7);
  EXPECT_EQ(calls, 1);
}

TEST(Launch, ExceptionsPassThrough) {
  EXPECT_THROW(launch([](std::shared_ptr<Group>) -> int { throw FormatError("from the rank"); }), FormatError);
}

TEST(Launch, ComesBeforeAnyThread) {
  std::atomic_flag done;
  std::thread thread([&] { done.wait(false); });
  try {
    launch([](std::shared_ptr<Group>) { return 0; }, {.num_processes = 2});
    ADD_FAILURE();
  } catch (const Error& error) {
    const auto tasks = std::distance(std::filesystem::directory_iterator("/proc/self/task"), {});  // a sanitizer has its own
    EXPECT_EQ(error.what(),
              fmt::format("launch() forks and must come before any thread is started, and this process has {} of them", tasks));
  }
  done.test_and_set();
  done.notify_all();
  thread.join();
}

std::string key_of(const LaunchOptions& options) {
  try {
    validate(options);
  } catch (const ConfigError& error) {
    return error.key();
  }
  return "";
}

TEST(Launch, OptionsOutOfRangeAreNamedBeforeAnythingRuns) {
  using namespace std::chrono_literals;
  const RankMain never = [](std::shared_ptr<Group>) -> int { throw std::logic_error("must not run"); };
  EXPECT_THROW(launch(never, {.num_processes = 0}), ConfigError);
  EXPECT_EQ(key_of({}), "");
  EXPECT_EQ(key_of({.num_processes = 0}), "LaunchOptions.num_processes");
  EXPECT_EQ(key_of({.num_machines = 0}), "LaunchOptions.num_machines");
  EXPECT_EQ(key_of({.machine_rank = 1}), "LaunchOptions.machine_rank");
  EXPECT_EQ(key_of({.machine_rank = -1}), "LaunchOptions.machine_rank");
  EXPECT_EQ(key_of({.max_restarts = -1}), "LaunchOptions.max_restarts");
  EXPECT_EQ(key_of({.timeout = 0ms}), "LaunchOptions.timeout");
  EXPECT_EQ(key_of({.grace_time = -1ms}), "LaunchOptions.grace_time");
  EXPECT_EQ(key_of({.grace_time = 0ms}), "");
  EXPECT_EQ(key_of({.num_machines = 2}), "LaunchOptions.dist_url");
  EXPECT_EQ(key_of({.num_machines = 2, .dist_url = "tcp://host:0"}), "LaunchOptions.dist_url");
  EXPECT_EQ(key_of({.num_machines = 2, .dist_url = "tcp://host:1"}), "");
  EXPECT_EQ(key_of({.num_machines = 2, .dist_url = "env://"}), "");
}

TEST(DistUrl, KnownFormsAreReadAndWritten) {
  EXPECT_EQ(parse_dist_url("auto").kind, DistUrl::Kind::automatic);
  EXPECT_EQ(parse_dist_url("env://").kind, DistUrl::Kind::environment);
  for (const char* text : {"tcp://10.0.0.1:29500", "tcp://login-3.cluster:1", "tcp://[::1]:65535", "file:///tmp/meet"}) {
    EXPECT_EQ(to_string(parse_dist_url(text)), text);
  }
  EXPECT_EQ(parse_dist_url("tcp://[::1]:80").host, "::1");
  for (const char* text : {"", "tcp://", "tcp://host", "tcp://:80", "tcp://host:", "tcp://host:65536", "tcp://host:8x",
                           "file://here", "http://host:80", "127.0.0.1:29500"}) {
    EXPECT_THROW(parse_dist_url(text), ConfigError) << text;
  }
}

EnvironmentReader reader(std::map<std::string, std::string> variables) {
  return [variables = std::move(variables)](const std::string& name) -> std::optional<std::string> {
    const auto found = variables.find(name);
    return found == variables.end() ? std::nullopt : std::optional(found->second);
  };
}

TEST(DistUrl, TheEnvironmentMustHoldAWholeAddress) {
  const DistUrl url = parse_dist_url("env://");
  EXPECT_EQ(to_string(resolve_environment(url, reader({{"MASTER_ADDR", "a"}, {"MASTER_PORT", "5"}}))), "tcp://a:5");
  EXPECT_THROW(resolve_environment(url, reader({{"MASTER_ADDR", "a"}})), ConfigError);
  EXPECT_THROW(resolve_environment(url, reader({{"MASTER_PORT", "5"}})), ConfigError);
  EXPECT_THROW(resolve_environment(url, reader({{"MASTER_ADDR", "a"}, {"MASTER_PORT", "0"}})), ConfigError);
  EXPECT_EQ(to_string(resolve_environment(parse_dist_url("tcp://b:6"), reader({}))), "tcp://b:6");
}

void expect_place(const std::optional<StartedRank>& started, const std::string& by, const std::vector<int>& place,
                  const std::string& url) {
  ASSERT_TRUE(started.has_value());
  EXPECT_EQ(started->by, by);
  EXPECT_EQ((std::vector<int>{started->rank, started->world_size, started->local_rank, started->local_size}), place);
  EXPECT_EQ(started->dist_url, url);
}

TEST(StartedRank, OfTorchrun) {
  std::map<std::string, std::string> variables = {{"RANK", "5"},
                                                  {"WORLD_SIZE", "8"},
                                                  {"LOCAL_RANK", "1"},
                                                  {"LOCAL_WORLD_SIZE", "4"},
                                                  {"MASTER_ADDR", "node0"},
                                                  {"MASTER_PORT", "29400"},
                                                  {"SLURM_PROCID", "1"},
                                                  {"SLURM_STEP_NUM_TASKS", "2"},  // torchrun on each node of Slurm
                                                  {"TORCHELASTIC_RESTART_COUNT", "2"},
                                                  {"TORCHELASTIC_USE_AGENT_STORE", "True"}};
  const auto started = started_rank(reader(variables));
  expect_place(started, "torchrun", {5, 8, 1, 4}, "tcp://node0:29400");
  EXPECT_TRUE(started->store_runs);
  EXPECT_EQ(started->generation, 2);
  variables["TORCHELASTIC_USE_AGENT_STORE"] = "False";
  variables.erase("TORCHELASTIC_RESTART_COUNT");
  EXPECT_FALSE(started_rank(reader(variables))->store_runs);
  EXPECT_EQ(started_rank(reader(variables))->generation, 0);
}

TEST(StartedRank, OfSrun) {
  std::map<std::string, std::string> variables = {{"SLURM_PROCID", "5"},
                                                  {"SLURM_STEP_NUM_TASKS", "7"},
                                                  {"SLURM_LOCALID", "1"},
                                                  {"SLURM_NODEID", "2"},
                                                  {"SLURM_JOB_ID", "4000123"},
                                                  {"SLURM_STEP_ID", "1"},
                                                  {"SLURM_STEP_TASKS_PER_NODE", "2(x3),1"},
                                                  {"SLURM_STEP_NODELIST", "node[03-05,9],login"}};
  // 15000 + (4000123 + 1009) mod 15000
  expect_place(started_rank(reader(variables)), "srun", {5, 7, 1, 2}, "tcp://node03:26132");
  EXPECT_EQ(started_rank(reader(variables))->run, "step 4000123.1");
  variables["SLURM_NODEID"] = "3";
  variables["SLURM_LOCALID"] = "0";
  variables["SLURM_STEP_NODELIST"] = "gpu7,gpu9";
  expect_place(started_rank(reader(variables)), "srun", {5, 7, 0, 1}, "tcp://gpu7:26132");
  variables["SLURM_STEP_NODELIST"] = "rack[1-2]-cpu";
  variables["MASTER_ADDR"] = "fe80::1";
  expect_place(started_rank(reader(variables)), "srun", {5, 7, 0, 1}, "tcp://rack1-cpu:26132");
  variables["MASTER_PORT"] = "77";
  expect_place(started_rank(reader(variables)), "srun", {5, 7, 0, 1}, "tcp://[fe80::1]:77");
  variables["SLURM_NODEID"] = "4";
  EXPECT_THROW(started_rank(reader(variables)), ConfigError);
}

TEST(StartedRank, StepsOfJobsThatFollowOneAnotherMeetAtDifferentPorts) {
  std::set<std::string> places;
  for (const char* job : {"100", "101", "102", "103"}) {
    for (const char* step : {"0", "1", "2", "3"}) {
      places.insert(started_rank(reader({{"SLURM_PROCID", "0"},
                                         {"SLURM_STEP_NUM_TASKS", "2"},
                                         {"SLURM_LOCALID", "0"},
                                         {"SLURM_NODEID", "0"},
                                         {"SLURM_JOB_ID", job},
                                         {"SLURM_STEP_ID", step},
                                         {"SLURM_STEP_TASKS_PER_NODE", "2"},
                                         {"SLURM_STEP_NODELIST", "node1"}}))
                        ->dist_url);
    }
  }
  EXPECT_EQ(places.size(), 16u);
}

TEST(StartedRank, TheShellOfAnAllocationIsAlone) {
  // As salloc with LaunchParameters=use_interactive_step leaves them.
  const auto started = started_rank(reader({{"SLURM_PROCID", "0"},
                                            {"SLURM_STEP_NUM_TASKS", "1"},
                                            {"SLURM_LOCALID", "0"},
                                            {"SLURM_NODEID", "0"},
                                            {"SLURM_JOB_ID", "4294967295"},
                                            {"SLURM_STEP_ID", "4294967290"},
                                            {"SLURM_STEP_TASKS_PER_NODE", "1"},
                                            {"SLURM_STEP_NODELIST", "node1"}}));
  ASSERT_TRUE(started.has_value());
  EXPECT_EQ(started->world_size, 1);
}

TEST(StartedRank, OfMpirunInAJobOfSlurm) {
  // mpirun has srun start a daemon on each of two nodes; the ranks inherit what describes the step of the daemons.
  const auto started = started_rank(reader({{"OMPI_COMM_WORLD_RANK", "2"},
                                            {"OMPI_COMM_WORLD_SIZE", "3"},
                                            {"OMPI_COMM_WORLD_LOCAL_RANK", "0"},
                                            {"OMPI_COMM_WORLD_LOCAL_SIZE", "1"},
                                            {"PMIX_NAMESPACE", "891420673"},
                                            {"SLURM_PROCID", "1"},
                                            {"SLURM_STEP_NUM_TASKS", "2"},
                                            {"SLURM_LOCALID", "0"},
                                            {"SLURM_NODEID", "1"},
                                            {"SLURM_JOB_ID", "19"},
                                            {"SLURM_STEP_ID", "0"},
                                            {"SLURM_STEP_TASKS_PER_NODE", "1(x2)"},
                                            {"SLURM_STEP_NODELIST", "n[1-2]"}}));
  expect_place(started, "mpirun", {2, 3, 0, 1}, "");
  EXPECT_EQ(started->run, "mpirun 891420673");
}

TEST(StartedRank, OfMpirun) {
  std::map<std::string, std::string> variables = {{"OMPI_COMM_WORLD_RANK", "1"},
                                                  {"OMPI_COMM_WORLD_SIZE", "4"},
                                                  {"OMPI_COMM_WORLD_LOCAL_RANK", "1"},
                                                  {"OMPI_COMM_WORLD_LOCAL_SIZE", "2"}};
  expect_place(started_rank(reader(variables)), "mpirun", {1, 4, 1, 2}, "");
  variables["MASTER_ADDR"] = "10.0.0.1";
  variables["MASTER_PORT"] = "77";
  expect_place(started_rank(reader(variables)), "mpirun", {1, 4, 1, 2}, "tcp://10.0.0.1:77");
}

TEST(StartedRank, NobodyAndABatchScriptOfSlurmStartNoRank) {
  EXPECT_FALSE(started_rank(reader({})).has_value());
  EXPECT_FALSE(started_rank(reader({{"SLURM_PROCID", "0"}, {"SLURM_NTASKS", "4"}})).has_value());
  EXPECT_FALSE(started_rank(reader({{"RANK", "0"}})).has_value());
}

TEST(StartedRank, WhatMakesNoSenseIsNamed) {
  const std::map<std::string, std::string> sound = {{"RANK", "1"},        {"WORLD_SIZE", "2"},
                                                    {"LOCAL_RANK", "1"},  {"LOCAL_WORLD_SIZE", "2"},
                                                    {"MASTER_ADDR", "a"}, {"MASTER_PORT", "5"}};
  EXPECT_TRUE(started_rank(reader(sound)).has_value());
  for (const auto& [name, value] : std::map<std::string, std::string>{
           {"RANK", "2"}, {"WORLD_SIZE", "many"}, {"LOCAL_RANK", "-1"}, {"LOCAL_WORLD_SIZE", "3"}, {"MASTER_PORT", "99999"}}) {
    auto broken = sound;
    broken[name] = value;
    try {
      started_rank(reader(broken));
      ADD_FAILURE() << name;
    } catch (const ConfigError& error) {
      EXPECT_EQ(error.key(), name);
    }
    broken.erase(name);
    if (name == "RANK" || name == "WORLD_SIZE") continue;
    EXPECT_THROW(started_rank(reader(broken)), ConfigError) << name;
  }
}

bool connects(std::uint16_t port) {
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_port = htons(port);
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  const int socket = ::socket(AF_INET, SOCK_STREAM, 0);
  const bool connected = connect(socket, reinterpret_cast<sockaddr*>(&address), sizeof address) == 0;
  close(socket);
  return connected;
}

TEST(HeldPort, BelongsToThisProcessFromTheFirstMoment) {
  HeldPort port = find_free_port();
  EXPECT_GT(port.port(), 0);
  EXPECT_TRUE(connects(port.port()));
  EXPECT_THROW(HeldPort("127.0.0.1", port.port()), IoError);
  EXPECT_THROW(HeldPort("", port.port()), IoError);
  const std::uint16_t number = port.port();
  HeldPort moved = std::move(port);
  EXPECT_EQ(moved.port(), number);
  const int socket = moved.release();
  EXPECT_TRUE(connects(number));
  close(socket);
  EXPECT_FALSE(connects(number));
  {
    HeldPort again("localhost", number);
  }
  EXPECT_FALSE(connects(number));
}

TEST(HeldPort, SaysWhyItCannotBeHad) {
  const HeldPort busy = find_free_port();
  try {
    HeldPort("127.0.0.1", busy.port());
    ADD_FAILURE();
  } catch (const IoError& error) {
    EXPECT_EQ(error.error_number(), EADDRINUSE);
    EXPECT_NE(std::string(error.what()).find("tcp://127.0.0.1:" + std::to_string(busy.port())), std::string::npos);
    EXPECT_NE(std::string(error.what()).find("choose another"), std::string::npos);
  }
  try {
    HeldPort("192.0.2.1", 0);  // an address for documentation, of no machine
    ADD_FAILURE();
  } catch (const IoError& error) {
    EXPECT_EQ(error.error_number(), EADDRNOTAVAIL);
  }
  EXPECT_THROW(HeldPort("no such host.invalid", 0), Error);
}

std::string disagreement(const Dict& own, const std::vector<Dict>& others) {
  FakeGroup group(0, static_cast<int>(others.size()) + 1);
  group.play_all_gather = [&](const Value& mine) {
    List all{mine};
    for (const Dict& each : others) all.push_back(Value(each));
    return all;
  };
  try {
    require_agreement(group, "config", own);
  } catch (const ConfigError& error) {
    return error.what();
  }
  return "";
}

TEST(Agreement, NamesTheFirstRankThatDiffersAndInWhat) {
  const Dict own{{"a", 1}, {"b", "x"}};
  EXPECT_EQ(disagreement(own, {own, own}), "");
  EXPECT_EQ(disagreement(own, {own, Dict{{"a", 2}, {"b", "y"}}, Dict{{"a", 3}}}),
            "rank 2 was started with another config than rank 0: a is 2 there and 1 on rank 0 (and 1 more)");
  EXPECT_EQ(disagreement(own, {Dict{{"a", 1}}}),
            "rank 1 was started with another config than rank 0: b is not set there and \"x\" on rank 0");
  EXPECT_EQ(disagreement(own, {Dict{{"a", 1}, {"b", "x"}, {"c", 1.5}}}),
            "rank 1 was started with another config than rank 0: c is 1.5 there and not set on rank 0");
}

TEST(Outcome, TravelsAsTextAndTheOneThatExplainsTheOthersCounts) {
  const Outcome well;
  const Outcome lost{.failure = Failure{.kind = Failure::Kind::lost_others, .rank = 0, .text = "rank 3 did not come"}};
  const Outcome died{.failure = Failure{.rank = 3, .status = 137, .may_restart = false, .text = "killed by  signal 9"}};
  for (const Outcome* each : {&lost, &died}) {
    const Outcome again = outcome_from_text(to_text(*each));
    ASSERT_TRUE(again.failure.has_value());
    EXPECT_EQ(to_text(again), to_text(*each));
    EXPECT_EQ(again.failure->text, each->failure->text);
    EXPECT_EQ(again.failure->may_restart, each->failure->may_restart);
  }
  EXPECT_FALSE(outcome_from_text(to_text(well)).failure.has_value());
  for (const Outcome& both : {merge(lost, died), merge(died, lost)}) {
    EXPECT_EQ(both.failure->rank, 3);
    EXPECT_FALSE(both.failure->may_restart);
  }
  EXPECT_EQ(merge(well, lost).failure->rank, 0);
  EXPECT_EQ(merge(lost, well).failure->rank, 0);
  EXPECT_FALSE(merge(well, well).failure.has_value());
}

}  // namespace
}  // namespace treadle

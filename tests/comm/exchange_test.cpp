// What stands below a group: the exchange of its ranks, and the store in which they meet.
#include <comm/c10d.hpp>
#include <comm/exchange.hpp>
#include <comm/meeting.hpp>
#include <tests/support/bell.hpp>
#include <tests/support/ranks.hpp>
#include <tests/support/source_folder.hpp>
#include <tests/support/temporary_folder.hpp>
#include <treadle/base/errors.hpp>
#include <treadle/comm/process_group.hpp>

#include <gtest/gtest.h>
#include <signal.h>
#include <torch/version.h>
#include <unistd.h>

#include <torch/csrc/distributed/c10d/TCPStore.hpp>

#include <array>
#include <fstream>
#include <functional>
#include <string>

namespace treadle {
namespace {

using namespace std::chrono_literals;

bool contains(const std::string& text, const std::string& part) { return text.find(part) != std::string::npos; }

std::string error_of(const std::function<void()>& call) {
  try {
    call();
  } catch (const std::exception& error) {
    return error.what();
  }
  return "no error";
}

/// Connects a rank as a group does that is called `name`.
Exchange connect_exchange(const ConnectOptions& options, const std::string& name) {
  return Exchange(
      std::make_shared<Store>(options),
      {.name = name, .rank = options.rank, .world_size = options.world_size, .timeout = options.timeout, .address = "127.0.0.1"});
}

TEST(Exchange, WhatAnEarlierRunLeftInAFileIsToldWithoutFrames) {
  const auto body = [](const ConnectOptions& options) -> std::string {
    connect_group(options);
    ConnectOptions again = options;
    std::string error = "stays away";
    if (options.rank == 0) {
      again.timeout = std::chrono::milliseconds(1000);
      error = error_of([&] { connect_group(again); });
    }
    again.name = "another";
    again.timeout = options.timeout;
    EXPECT_EQ(connect_group(again)->get_world_size(), 2);
    return error;
  };
  const auto results = run_processes(2, body);
  for (const RankResult& result : results) EXPECT_EQ(result.status, 0) << result.said;
  EXPECT_TRUE(contains(results[0].said, "connectFullMesh failed")) << results[0].said;
  EXPECT_FALSE(contains(results[0].said, "frame #") || contains(results[0].said, "Exception raised from")) << results[0].said;
}

/// Rank 1 announces a long message for rank 2 and stops. Rank 0 has none and goes on to the next call.
TEST(Exchange, WhoIsStillInAnEarlierCallIsNamed) {
  const auto body = [](const ConnectOptions& options) -> std::string {
    Exchange exchange = connect_exchange(options, "test");
    const Payload own = Payload::of(std::string(options.rank == 1 ? 1'000'000 : 10, 'x'));
    Exchange::Round round;
    exchange.call(round, Call::gather, 2, own);
    if (options.rank == 1) raise(SIGSTOP);
    return error_of([&] {
      exchange.at_one(round, own, 2);
      exchange.call(round, Call::synchronize, 0, {});
    });
  };
  const auto results = run_processes(3, body, {.timeout = 2s, .hard_limit = 30s});
  EXPECT_TRUE(contains(results[0].said, "rank 1 did not arrive; rank 2 was still in gather (call 0)")) << results[0].said;
  EXPECT_TRUE(contains(results[2].said, "rank 2, gather: rank 1 did not arrive")) << results[2].said;
}

/// All ranks know that the messages come; then the one that should read them stops.
TEST(Exchange, ALongMessageToARankThatStopsEndsInTime) {
  const auto body = [](const ConnectOptions& options) -> std::string {
    Exchange exchange = connect_exchange(options, "test");
    const Payload own = Payload::of(std::string(30'000'000, 'x'));
    Exchange::Round round;
    exchange.call(round, Call::gather, 1, own);
    if (options.rank == 1) raise(SIGSTOP);
    return error_of([&] { exchange.at_one(round, own, 1); });
  };
  const auto results = run_processes(3, body, {.timeout = 2s, .hard_limit = 30s});
  for (int rank : {0, 2}) {
    const std::string& said = results[static_cast<std::size_t>(rank)].said;
    EXPECT_TRUE(contains(said, "gather: rank 1 did not arrive")) << said;
  }
}

TEST(Exchange, AnotherBuildIsRefused) {
  const auto body = [](const ConnectOptions& options) -> std::string {
    if (options.rank == 0) return error_of([&] { connect_group(options); });
    Store store(options);
    meet(store, {.name = "group/0", .rank = 1, .world_size = 2, .patience = options.timeout}, options.timeout);
    Exchange exchange = connect_exchange(options, "group/0");
    Exchange::Round round;
    exchange.call(round, Call::connect, 2, Payload::of("Treadle of next year"));
    return "";
  };
  const auto results = run_processes(2, body);
  EXPECT_TRUE(contains(results[0].said, "rank 1 runs another build: Treadle of next year there, " + build_name() + " here"))
      << results[0].said;
}

TEST(Exchange, ABuildIsNamedByTheVersionsOfTreadleAndLibTorch) {
  const std::string cmake = read_text(std::filesystem::path(source_folder()) / "CMakeLists.txt");
  const std::string project = "project(treadle VERSION ";
  const std::size_t begin = cmake.find(project) + project.size();
  const std::string version = cmake.substr(begin, cmake.find(' ', begin) - begin);
  EXPECT_TRUE(build_name().starts_with("Treadle " + version + ", LibTorch " TORCH_VERSION ", ")) << build_name();
}

/// The ranks have met; then one ends before its connections are made.
TEST(Exchange, ARankThatEndsWhileConnectionsAreMadeIsNamed) {
  const auto body = [](const ConnectOptions& options) -> std::string {
    if (options.rank != 1) return error_of([&] { connect_group(options); });
    Store store(options);
    meet(store, {.name = "group/0", .rank = 1, .world_size = 3, .patience = options.timeout}, options.timeout);
    return "";
  };
  const auto results = run_processes(3, body, {.timeout = 2s, .hard_limit = 30s});
  for (int rank : {0, 2}) {
    const std::string& said = results[static_cast<std::size_t>(rank)].said;
    EXPECT_TRUE(contains(said, "connect: rank 1 did not arrive (waited ")) << said;
    EXPECT_TRUE(contains(said, " s of at most 2 s: ")) << said;
  }
}

/// The same when further connections are made, as for a gradient reducer.
TEST(Exchange, ARankThatEndsWhileFurtherConnectionsAreMadeIsNamed) {
  const auto body = [](const ConnectOptions& options) -> std::string {
    Exchange exchange = connect_exchange(options, "test");
    Exchange::Round round;
    exchange.call(round, Call::make_gradient_reducer, 0, {});
    if (options.rank == 1) return "";
    const std::string error = error_of([&] { exchange.open_link("gradients", round); });
    EXPECT_TRUE(exchange.is_broken());
    return error;
  };
  const auto results = run_processes(3, body, {.timeout = 2s, .hard_limit = 30s});
  for (int rank : {0, 2}) {
    const RankResult& result = results[static_cast<std::size_t>(rank)];
    EXPECT_EQ(result.status, 0) << result.said;
    EXPECT_TRUE(contains(result.said, "make_gradient_reducer: rank 1 did not arrive (waited ")) << result.said;
    EXPECT_TRUE(contains(result.said, " s of at most 2 s: ")) << result.said;
  }
}

TEST(Exchange, AnAddressThatIsNotThisMachinesIsNoFaultOfTheOthers) {
  const auto body = [](const ConnectOptions& options) -> std::string {
    ConnectOptions own = options;
    if (options.rank == 1) own.address = "203.0.113.77";  // of a network for documentation
    return error_of([&] { connect_group(own); });
  };
  const auto results = run_processes(2, body, {.timeout = 2s, .hard_limit = 30s});
  EXPECT_TRUE(contains(results[0].said, "rank 0, connect: rank 1 gave up: ")) << results[0].said;
  EXPECT_TRUE(contains(results[0].said, "203.0.113.77")) << results[0].said;
  EXPECT_TRUE(contains(results[1].said, "rank 1, connect: ")) << results[1].said;
  EXPECT_FALSE(contains(results[1].said, "did not arrive")) << results[1].said;
}

/// A rank that has ended waits until the others have ended too: they may still be reading what it sent.
TEST(Exchange, AGroupIsLeftTogether) {
  std::array<int, 2> order{};
  ASSERT_EQ(pipe(order.data()), 0);
  const auto body = [&](const ConnectOptions& options) -> std::string {
    auto group = connect_group(options);
    if (options.rank == 1) {
      Store store(options);
      if (!store.wait({"group/0/left/0"}, 10s).empty()) return "rank 0 said no farewell";
      if (write(order[1], "1", 1) != 1) return "write failed";
    }
    group.reset();
    if (options.rank == 0 && write(order[1], "0", 1) != 1) return "write failed";
    return "";
  };
  for (const RankResult& result : run_processes(2, body)) EXPECT_EQ(result.said, "");
  std::array<char, 2> said{};
  ASSERT_EQ(read(order[0], said.data(), said.size()), 2);
  EXPECT_EQ(std::string(said.data(), said.size()), "10");
  for (int end : order) close(end);
}

/// Waits until the kernel says that the process is stopped.
void wait_until_stopped(pid_t pid) {
  for (;;) {
    std::ifstream file("/proc/" + std::to_string(pid) + "/stat");
    const std::string text((std::istreambuf_iterator<char>(file)), {});
    if (text.at(text.rfind(')') + 2) == 'T') return;
  }
}

struct Server {
  pid_t pid = 0;
  std::uint16_t port = 0;
};

TEST(Store, OneThatIsStoppedIsGivenUpWhenTheTimeIsOver) {
  Bell used;
  std::array<int, 2> address{};
  ASSERT_EQ(pipe(address.data()), 0);
  const auto body = [&](const ConnectOptions& options) -> std::string {
    Server server{getpid(), 0};
    if (options.rank == 0) {
      c10d::TCPStoreOptions tcp;
      tcp.port = 0;
      tcp.isServer = true;
      tcp.waitWorkers = false;
      const c10d::TCPStore store("127.0.0.1", tcp);
      server.port = store.getPort();
      if (write(address[1], &server, sizeof server) != sizeof server) return "write failed";
      used.wait_for(1);
      raise(SIGSTOP);
    }
    if (read(address[0], &server, sizeof server) != sizeof server) return "read failed";
    Store store({.rank = 1, .world_size = 2, .port = server.port, .timeout = 20s});
    store.set("key", "value", 20s);
    EXPECT_EQ(store.find("key", 20s), "value");
    used.ring();
    wait_until_stopped(server.pid);
    return error_of([&] { store.find("key", 300ms); });
  };
  const auto results = run_processes(2, body, {.hard_limit = 15s});
  EXPECT_TRUE(contains(results[1].said, "did not answer within 0.3 s")) << results[1].said;
  for (int end : address) close(end);
}

}  // namespace
}  // namespace treadle

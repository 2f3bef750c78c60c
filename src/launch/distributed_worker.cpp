#include <base/exception_text.hpp>
#include <launch/distributed_worker.hpp>
#include <launch/meeting_point.hpp>
#include <treadle/base/device.hpp>
#include <treadle/base/errors.hpp>
#include <treadle/base/log.hpp>
#include <treadle/comm/comm.hpp>
#include <treadle/comm/process_group.hpp>

#include <ATen/Parallel.h>
#include <c10/core/impl/DeviceGuardImplInterface.h>
#include <fmt/format.h>
#include <unistd.h>
#include <torch/csrc/distributed/c10d/FileStore.hpp>

#include <algorithm>
#include <filesystem>
#include <thread>
#include <vector>

namespace treadle {
namespace {

/// How long a failed rank 0 keeps the store open for the others to tell who is missing.
constexpr std::chrono::seconds kAfterFailure{3};

std::shared_ptr<Group> join(const WorkerPlace& place) {
  ConnectOptions options;
  options.rank = place.rank;
  options.world_size = place.world_size;
  options.local_rank = place.local_rank;
  options.local_size = place.local_size;
  options.generation = place.generation;
  options.timeout = place.timeout;
  options.check_order = place.check_order;
  // A start does not meet what the groups of the start before have left in the store, rebuilt ones among them.
  options.name = fmt::format("start-{}", place.generation);
  options.store_keeper = place.store_keeper;
  if (place.url.kind == DistUrl::Kind::file) {
    options.file = place.url.file;
  } else {
    options.host = place.url.host;
    options.port = place.url.port;
  }
  try {
    return connect_group(options);
  } catch (const CommError& error) {
    const std::string head = fmt::format("rank {}, {}: ", error.rank(), error.operation());
    const std::string text = error.what();
    throw CommError(fmt::format("joining the others at {}: {}", to_string(place.url),
                                text.starts_with(head) ? text.substr(head.size()) : text),
                    place.rank, error.operation());
  }
}

/// The accelerator of this local rank becomes the current one; a run on the CPU needs none.
void take_device(int local_rank) {
  if (accelerator_count() <= local_rank) return;
  const c10::Device device = default_device(local_rank);
  c10::impl::getDeviceGuardImpl(device.type())->setDevice(device);
}

/// Machines with unequal numbers of processes, which only others start, have no groups of their own.
void make_local_group(Group& group) {
  const List sizes = group.all_gather(Value(static_cast<std::int64_t>(group.get_local_size())));
  const bool equal =
      std::all_of(sizes.begin(), sizes.end(), [&](const Value& size) { return size.as_int() == group.get_local_size(); });
  if (equal) create_local_process_group(group, group.get_local_size());
}

void share_cores(int local_size) {
  if (local_size == 1 || read_environment("OMP_NUM_THREADS")) return;
  at::set_num_threads(std::max(1, static_cast<int>(std::thread::hardware_concurrency()) / local_size));
}

DistUrl address_of(const StartedRank& started, const LaunchOptions& options) {
  DistUrl url = resolve_environment(parse_dist_url(options.dist_url));
  if (url.kind != DistUrl::Kind::automatic) return url;
  if (started.dist_url.empty()) {
    throw ConfigError(started.by + " started this process and does not tell where the others are: set LaunchOptions.dist_url " +
                          "(--dist-url tcp://HOST:PORT, an address of the machine of rank 0), or MASTER_ADDR and MASTER_PORT",
                      "LaunchOptions.dist_url");
  }
  return parse_dist_url(started.dist_url);
}

/// The store of a run that has no launcher of ours: rank 0 keeps it open until all ranks have come to their end.
class SharedStore {
 public:
  SharedStore(const WorkerPlace& place, const StartedRank& started)
      : place_(place), serves_(place.rank == 0 && (!started.store_runs || in_file())) {
    if (in_file()) {
      open_file();
    } else if (serves_) {
      HeldPort port = hold_port(place.url, place.world_size > place.local_size ? 2 : 1);
      store_ = serve_store(port, place.url, place.timeout);
    } else {
      store_ = reach_store(place.url, place.timeout, place.rank, sleep);
    }
    store_->setTimeout(place.timeout);
    if (!started.run.empty()) compare_runs(started);
  }
  ~SharedStore() {
    std::error_code ignored;
    // Those that have come to their end remove it with the last store; a killed one never will.
    if (in_file() && serves_ && !all_left_) std::filesystem::remove(place_.url.file, ignored);
  }
  SharedStore(const SharedStore&) = delete;
  SharedStore& operator=(const SharedStore&) = delete;

  /// To be called when this rank has come to its end. On the one that serves the store it waits for the others, up to `patience`.
  void leave(std::chrono::milliseconds patience) {
    const std::string key = fmt::format("treadle/launch/left/{}", place_.generation);
    try {
      std::int64_t left = store_->add(key, 1);
      const auto deadline = Clock::now() + patience;
      while (serves_ && left < place_.world_size && Clock::now() < deadline) {
        sleep(Clock::now() + std::chrono::milliseconds(20));
        left = store_->add(key, 0);
      }
      all_left_ = left >= place_.world_size;
    } catch (const std::exception&) {
      // Rank 0 has ended: nobody needs the store any more.
    }
  }

 private:
  static void sleep(Clock::time_point until) { std::this_thread::sleep_until(until); }
  bool in_file() const { return place_.url.kind == DistUrl::Kind::file; }

  void open_file() {
    // A later start goes on with the file of the first.
    if (serves_ && place_.generation == 0) make_meeting_file(place_.url.file);
    if (!serves_) await_meeting_file(place_.url.file, "rank 0", place_.timeout, place_.rank, sleep);
    store_ = c10::make_intrusive<c10d::FileStore>(place_.url.file.string(), place_.world_size);
  }

  /// Ranks of another run that were told to meet at the same place would be taken for those of this one.
  void compare_runs(const StartedRank& started) {
    constexpr const char* key = "treadle/launch/run";
    // The store that torchrun keeps has no name of a run in it either.
    if (place_.rank == 0) store_->set(key, std::vector<std::uint8_t>(started.run.begin(), started.run.end()));
    const std::vector<std::uint8_t> bytes = store_->get(key);
    const std::string there(bytes.begin(), bytes.end());
    if (there == started.run) return;
    throw CommError(fmt::format("another run meets at {}: {} there, {} here; choose another --dist-url", to_string(place_.url),
                                there, started.run),
                    place_.rank, "join");
  }

  const WorkerPlace& place_;
  bool serves_;
  bool all_left_ = false;
  c10::intrusive_ptr<c10d::Store> store_;
};

}  // namespace

int distributed_worker(const RankMain& main, const WorkerPlace& place, std::shared_ptr<Group>& group) {
  share_cores(place.local_size);
  group = join(place);
  // The group of a process alone is as new as the process.
  while (group->generation() < place.generation) group->rebuild();
  make_local_group(*group);
  take_device(place.local_rank);
  group->synchronize();
  return main(group);
}

int run_started_rank(const RankMain& main, const StartedRank& started, const LaunchOptions& options) {
  WorkerPlace place{.rank = started.rank,
                    .world_size = started.world_size,
                    .local_rank = started.local_rank,
                    .local_size = started.local_size,
                    .generation = started.generation,
                    .timeout = options.timeout,
                    .check_order = options.check_order};
  if (started.rank != 0) echo_warnings(STDOUT_FILENO, fmt::format("[rank {}] ", started.rank));
  place.url = address_of(started, options);
  place.store_keeper = started.store_runs ? started.by : "rank 0";
  SharedStore store(place, started);
  std::shared_ptr<Group> group;
  try {
    const int status = distributed_worker(main, place, group);
    store.leave(place.timeout);
    return status;
  } catch (...) {
    // The others hear why at once, and find the store open while they look for those who are missing.
    if (group) group->mark_broken(exception_text(std::current_exception()));
    store.leave(std::min<std::chrono::milliseconds>(place.timeout, kAfterFailure));
    throw;
  }
}

}  // namespace treadle

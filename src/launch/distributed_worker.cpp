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

#include <algorithm>
#include <thread>

namespace treadle {
namespace {

std::shared_ptr<Group> join(const WorkerPlace& place) {
  ConnectOptions options;
  options.rank = place.rank;
  options.world_size = place.world_size;
  options.local_rank = place.local_rank;
  options.local_size = place.local_size;
  options.generation = place.generation;
  options.timeout = place.timeout;
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
  SharedStore(const WorkerPlace& place, bool runs) : place_(place), serves_(!runs && place.rank == 0) {
    if (place.url.kind == DistUrl::Kind::file) return;
    if (serves_) {
      HeldPort port = hold_port(place.url, place.world_size > place.local_size ? 2 : 1);
      store_ = serve_store(port, place.url, place.timeout);
    } else {
      store_ = reach_store(place.url, place.timeout, place.rank,
                           [](Clock::time_point until) { std::this_thread::sleep_until(until); });
    }
  }

  /// To be called when `main` has returned.
  void leave() {
    if (!store_) return;
    const std::string key = fmt::format("treadle/launch/left/{}", place_.generation);
    try {
      std::int64_t left = store_->add(key, 1);
      const auto deadline = Clock::now() + place_.timeout;
      while (serves_ && left < place_.world_size && Clock::now() < deadline) {
        std::this_thread::sleep_for(std::chrono::milliseconds(20));
        left = store_->add(key, 0);
      }
    } catch (const c10::Error&) {
      // Rank 0 has ended: nobody needs the store any more.
    }
  }

 private:
  const WorkerPlace& place_;
  bool serves_;
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
                    .timeout = options.timeout};
  if (started.rank != 0) echo_warnings(STDOUT_FILENO, fmt::format("[rank {}] ", started.rank));
  place.url = address_of(started, options);
  SharedStore store(place, started.store_runs);
  std::shared_ptr<Group> group;
  const int status = distributed_worker(main, place, group);
  store.leave();
  return status;
}

}  // namespace treadle

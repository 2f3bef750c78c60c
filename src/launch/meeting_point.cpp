#include <base/exception_text.hpp>
#include <launch/descriptor.hpp>
#include <launch/meeting_point.hpp>
#include <treadle/base/errors.hpp>

#include <fcntl.h>
#include <fmt/format.h>
#include <torch/csrc/distributed/c10d/FileStore.hpp>
#include <torch/csrc/distributed/c10d/TCPStore.hpp>

#include <cerrno>

namespace treadle {
namespace {

constexpr std::chrono::milliseconds kBetweenLooks(50);
constexpr const char* kPlan = "treadle/launch/plan";

std::vector<std::uint8_t> bytes_of(const std::string& text) { return {text.begin(), text.end()}; }

double seconds(std::chrono::milliseconds time) { return std::chrono::duration<double>(time).count(); }

std::string outcome_key(std::int64_t generation, int machine) {
  return fmt::format("treadle/launch/outcome/{}/{}", generation, machine);
}

std::string plan_of(const LaunchOptions& options) {
  return fmt::format("{} processes on each of {} machines, {} restarts", options.num_processes, options.num_machines,
                     options.max_restarts);
}

DistUrl meeting_url(const LaunchOptions& options) {
  DistUrl url = resolve_environment(parse_dist_url(options.dist_url));
  if (url.kind == DistUrl::Kind::automatic) url = {.kind = DistUrl::Kind::tcp, .host = "127.0.0.1", .port = 0};
  return url;
}

}  // namespace

void make_meeting_file(const std::filesystem::path& file) {
  const Descriptor made(open(file.c_str(), O_CREAT | O_EXCL | O_RDWR | O_CLOEXEC, 0600));
  if (made.get() < 0) {
    throw IoError("make the file where the processes meet,", file, errno,
                  errno == EEXIST ? "another run uses it, or was killed: remove it, or name another file" : "");
  }
}

void await_meeting_file(const std::filesystem::path& file, const std::string& maker, std::chrono::milliseconds timeout, int rank,
                        const Wait& wait) {
  const auto deadline = Clock::now() + timeout;
  while (!std::filesystem::exists(file)) {
    if (Clock::now() >= deadline) {
      throw CommError(fmt::format("{} did not make the file \"{}\" within {} s", maker, file.string(), seconds(timeout)), rank,
                      "join");
    }
    wait(Clock::now() + kBetweenLooks);
  }
}

MeetingPoint::MeetingPoint(const LaunchOptions& options) : options_(options), url_(meeting_url(options)) {
  if (options.machine_rank != 0) return;
  if (url_.kind == DistUrl::Kind::file) {
    make_meeting_file(url_.file);
    owns_file_ = true;
  } else {
    port_.emplace(hold_port(url_, options.num_machines));
    url_.port = port_->port();
  }
}

MeetingPoint::~MeetingPoint() {
  std::error_code ignored;
  if (owns_file_) std::filesystem::remove(url_.file, ignored);
}

void MeetingPoint::open(const Wait& wait) {
  const auto deadline = Clock::now() + options_.timeout;
  if (port_) {
    store_ = serve_store(*port_, url_, options_.timeout);
  } else if (options_.num_machines > 1 && url_.kind == DistUrl::Kind::tcp) {
    store_ = reach_store(url_, options_.timeout, options_.machine_rank * options_.num_processes, wait);
  } else if (options_.num_machines > 1) {
    await_meeting_file(url_.file, "machine 0", options_.timeout, options_.machine_rank * options_.num_processes, wait);
    store_ = c10::make_intrusive<c10d::FileStore>(url_.file.string(), -1);
  }
  if (options_.num_machines == 1) return;
  store_->setTimeout(options_.timeout);
  const std::int64_t same = store_->add(fmt::format("treadle/launch/machine/{}", options_.machine_rank), 1);
  if (same > 1) {
    throw ConfigError(fmt::format("LaunchOptions.machine_rank is {}, which another machine at {} has taken",
                                  options_.machine_rank, to_string(url_)),
                      "LaunchOptions.machine_rank");
  }
  const std::string plan = plan_of(options_);
  if (options_.machine_rank == 0) store_->set(kPlan, bytes_of(plan));
  const auto first = read(kPlan, deadline, wait);
  if (!first) {
    throw CommError(fmt::format("machine 0 did not come to {} within {} s", to_string(url_), seconds(options_.timeout)),
                    options_.machine_rank * options_.num_processes, "join");
  }
  if (*first != plan) {
    throw ConfigError(fmt::format("machine {} was started for {}; machine 0 for {}", options_.machine_rank, plan, *first));
  }
}

std::optional<std::string> MeetingPoint::read(const std::string& key, Clock::time_point deadline, const Wait& wait) {
  while (!store_->check({key})) {
    if (Clock::now() >= deadline) return std::nullopt;
    wait(Clock::now() + kBetweenLooks);
  }
  const auto bytes = store_->get(key);
  return std::string(bytes.begin(), bytes.end());
}

Outcome MeetingPoint::agree(std::int64_t generation, const Outcome& own, const Wait& wait) {
  if (options_.num_machines == 1) return own;
  Outcome all = own;
  const auto missing = [&](int machine, const std::string& text) {
    Failure failure{.rank = machine * options_.num_processes, .may_restart = false, .text = text};
    failure.kind = own.failure ? Failure::Kind::lost_others : Failure::Kind::failed;
    all = merge(all, {.failure = failure});
  };
  const auto deadline = Clock::now() + options_.timeout;
  try {
    store_->set(outcome_key(generation, options_.machine_rank), bytes_of(to_text(own)));
    for (int machine = 0; machine < options_.num_machines; ++machine) {
      if (machine == options_.machine_rank) continue;
      if (const auto text = read(outcome_key(generation, machine), deadline, wait)) {
        all = merge(all, outcome_from_text(*text));
      } else {
        missing(machine,
                fmt::format("machine {} did not tell within {} s how its processes ended", machine, seconds(options_.timeout)));
      }
    }
  } catch (const c10::Error& error) {
    missing(0, fmt::format("machine 0 is gone: the store at {} does not answer ({})", to_string(url_),
                           exception_text(std::make_exception_ptr(error))));
  }
  return all;
}

void MeetingPoint::leave(const Wait& wait) noexcept {
  if (options_.num_machines == 1 || !store_) return;
  constexpr const char* key = "treadle/launch/left";
  try {
    std::int64_t left = store_->add(key, 1);
    const auto deadline = Clock::now() + options_.grace_time;
    while (options_.machine_rank == 0 && left < options_.num_machines && Clock::now() < deadline) {
      wait(Clock::now() + kBetweenLooks);
      left = store_->add(key, 0);
    }
  } catch (const std::exception&) {
    // The others have ended: nobody is left to wait for.
  }
}

}  // namespace treadle

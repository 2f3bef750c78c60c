#include <base/exception_text.hpp>
#include <launch/dist_url.hpp>
#include <launch/distributed_worker.hpp>
#include <launch/meeting_point.hpp>
#include <launch/process_tree.hpp>
#include <launch/supervisor.hpp>
#include <treadle/base/log.hpp>
#include <treadle/comm/process_group.hpp>
#include <treadle/launch/launch.hpp>
#include <treadle/launch/started_rank.hpp>

#include <c10/util/Logging.h>
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <cstdio>
#include <utility>
#include <vector>

namespace treadle {
namespace {

constexpr std::size_t kLinesOfLog = 20;

void require(bool holds, const char* field, long long value, const std::string& range) {
  if (!holds)
    throw ConfigError(fmt::format("LaunchOptions.{} is {}; {} is needed", field, value, range),
                      fmt::format("LaunchOptions.{}", field));
}

/// The other ranks did not answer: what ended this one may have happened elsewhere.
bool lost_others(const std::exception_ptr& exception) {
  try {
    std::rethrow_exception(exception);
  } catch (const CommError&) {
    return true;
  } catch (const c10::DistError&) {
    return true;
  } catch (const std::exception& error) {
    // LibTorch passes Gloo's own exceptions on, which have no type of their own.
    return std::string_view(error.what()).find("gloo") != std::string_view::npos;
  } catch (...) {
    return false;
  }
}

bool wrong_settings(const std::exception_ptr& exception) {
  try {
    std::rethrow_exception(exception);
  } catch (const ConfigError&) {
    return true;
  } catch (...) {
    return false;
  }
}

/// Errors alone of what LibTorch says on stderr about connections: every failure there becomes an exception here, which says
/// more. Who has set TORCH_CPP_LOG_LEVEL gets what it asks for.
class QuietConnections {
 public:
  QuietConnections() : before_(FLAGS_caffe2_log_level) {
    constexpr int errors_alone = 2;
    if (!read_environment("TORCH_CPP_LOG_LEVEL")) FLAGS_caffe2_log_level = errors_alone;
  }
  ~QuietConnections() { FLAGS_caffe2_log_level = before_; }
  QuietConnections(const QuietConnections&) = delete;
  QuietConnections& operator=(const QuietConnections&) = delete;

 private:
  int before_;
};

/// What the launcher has made before it forks, and every process below it finds in its memory.
struct Run {
  const RankMain& main;
  const LaunchOptions& options;
  const MeetingPoint& meeting_point;
  ReportChannel& reports;
  std::vector<RankOutput> outputs;  // of this machine; rank 0 has none

  int first_rank() const { return options.machine_rank * options.num_processes; }
  const RankOutput* output_of(int rank) const {
    const int index = rank - std::max(1, first_rank());
    return rank >= first_rank() && index >= 0 && index < static_cast<int>(outputs.size())
               ? &outputs[static_cast<std::size_t>(index)]
               : nullptr;
  }
};

/// The life of a rank, in its own process.
int run_rank(const Run& run, int local_rank, std::int64_t generation) {
  run.reports.close_reader();
  const int rank = run.first_rank() + local_rank;
  Descriptor terminal;
  if (const RankOutput* output = run.output_of(rank)) {
    terminal = output->take_over();
    echo_warnings(terminal.get(), fmt::format("[rank {}] ", rank));
  }
  RankReport report{.local_rank = local_rank, .generation = generation};
  // The group outlives the report: when its connections close, the other ranks fail too, and the first report names the cause.
  std::shared_ptr<Group> group;
  try {
    const WorkerPlace place{.rank = rank,
                            .world_size = run.options.num_machines * run.options.num_processes,
                            .local_rank = local_rank,
                            .local_size = run.options.num_processes,
                            .generation = generation,
                            .url = run.meeting_point.url(),
                            .store_keeper = "the launcher of machine 0",
                            .timeout = run.options.timeout,
                            .check_order = run.options.check_order};
    report.status = distributed_worker(run.main, place, group);
  } catch (...) {
    const auto exception = std::current_exception();
    report.status = 1;
    report.text = exception_text(exception);
    report.kind = lost_others(exception)      ? RankReport::Kind::lost_others
                  : wrong_settings(exception) ? RankReport::Kind::wrong_settings
                                              : RankReport::Kind::failed;
    // The launcher tells it to the user.
    echo_warnings(-1, "");
    if (rank != 0) log_error(report.text);
  }
  report.time = Clock::now();
  run.reports.send(report);
  if (report.kind == RankReport::Kind::finished) group.reset();
  return report.status;
}

void show_log(const Run& run, int rank) {
  const RankOutput* output = run.output_of(rank);
  if (output == nullptr) return;
  const auto lines = output->last_lines(kLinesOfLog);
  if (lines.empty()) return;
  log_error(fmt::format("The end of what rank {} wrote{}:\n    {}", rank,
                        output->file().empty() ? "" : fmt::format(" (\"{}\")", output->file().string()),
                        fmt::join(lines, "\n    ")));
}

/// With the rank in front, which a CommError has there already.
std::string text_of(const Failure& failure) {
  const std::string head = fmt::format("rank {}", failure.rank);
  return failure.text.starts_with(head + ",") ? failure.text : head + ": " + failure.text;
}

[[noreturn]] void give_up(const Failure& failure, std::int64_t restarts) {
  throw RankError(fmt::format("{}{}", text_of(failure),
                              restarts > 0 ? fmt::format(" (after {} restart{})", restarts, restarts > 1 ? "s" : "") : ""),
                  failure.rank, failure.status);
}

int supervise_generations(const Run& run, MeetingPoint& meeting_point, Supervisor& supervisor, const Wait& wait) {
  for (std::int64_t generation = 0;; ++generation) {
    const Outcome own = supervisor.run(generation);
    const Outcome outcome = meeting_point.agree(generation, own, wait);
    if (!outcome.failure) return 0;
    const Failure& failure = *outcome.failure;
    if (failure.exception) show_log(run, failure.rank);
    const bool again = failure.may_restart && supervisor.interrupted_by() == 0 && generation < run.options.max_restarts;
    if (!again) {
      if (failure.exception) give_up(failure, generation);
      return failure.status;
    }
    log_warning(fmt::format("{}; all ranks are started again ({} of {} restarts)", text_of(failure), generation + 1,
                            run.options.max_restarts));
  }
}

int supervise(const RankMain& main, const LaunchOptions& options) {
  if (const int threads = count_threads(); threads != 1) {
    throw Error(
        fmt::format("launch() forks and must come before any thread is started, and this process has {} of them", threads));
  }
  const QuietConnections quiet;
  MeetingPoint meeting_point(options);
  ReportChannel reports;
  Run run{.main = main, .options = options, .meeting_point = meeting_point, .reports = reports, .outputs = {}};
  for (int local = 0; local < options.num_processes; ++local) {
    if (const int rank = run.first_rank() + local; rank != 0) run.outputs.emplace_back(options.log_folder, rank);
  }
  std::fflush(nullptr);
  const SignalInbox signals;
  Nursery nursery(
      options.num_processes, [&run](int local_rank, std::int64_t generation) { return run_rank(run, local_rank, generation); },
      signals.before());
  reports.close_writer();
  Supervisor supervisor(nursery, reports, signals,
                        {.num_processes = options.num_processes,
                         .first_rank = run.first_rank(),
                         .grace_time = options.grace_time,
                         .timeout = options.timeout});
  const Wait wait = [&](Clock::time_point deadline) {
    supervisor.wait_until(deadline);
    if (const int number = supervisor.interrupted_by(); number != 0)
      throw RankError("interrupted while waiting for other machines", run.first_rank(), 128 + number);
  };
  meeting_point.open(wait);
  const int status = supervise_generations(run, meeting_point, supervisor, wait);
  meeting_point.leave(wait);
  return status;
}

/// A launcher on each machine may itself be started by srun and the like; many launchers on one machine would be as many runs.
void check_started(const StartedRank& started, const LaunchOptions& options) {
  if (options.num_processes == 1 && options.num_machines == 1) return;
  if (options.num_machines == started.world_size && options.machine_rank == started.rank) return;
  throw ConfigError(
      fmt::format("{} started this process as one of {}: leave num_processes and num_machines at 1, and it joins the others. To "
                  "have launchers started by {}, one on each machine, set num_machines to {} and machine_rank to {}",
                  started.by, started.world_size, started.by, started.world_size, started.rank),
      "LaunchOptions.num_processes");
}

}  // namespace

void validate(const LaunchOptions& options) {
  require(options.num_processes >= 1, "num_processes", options.num_processes, "at least 1");
  require(options.num_machines >= 1, "num_machines", options.num_machines, "at least 1");
  require(options.machine_rank >= 0 && options.machine_rank < options.num_machines, "machine_rank", options.machine_rank,
          options.num_machines == 1 ? "0" : fmt::format("a number from 0 to {}", options.num_machines - 1));
  require(options.max_restarts >= 0, "max_restarts", options.max_restarts, "at least 0");
  require(options.timeout.count() >= 1, "timeout", options.timeout.count(), "at least 1 ms");
  require(options.grace_time.count() >= 0, "grace_time", options.grace_time.count(), "at least 0 ms");
  const DistUrl url = parse_dist_url(options.dist_url);
  const bool any_port = url.kind == DistUrl::Kind::automatic || (url.kind == DistUrl::Kind::tcp && url.port == 0);
  if (any_port && options.num_machines > 1) {
    throw ConfigError(fmt::format("LaunchOptions.dist_url is \"{}\"; several machines need an address with a port of machine 0, "
                                  "tcp://HOST:PORT",
                                  options.dist_url),
                      "LaunchOptions.dist_url");
  }
}

int launch(const RankMain& main, const LaunchOptions& given) {
  validate(given);
  LaunchOptions options = given;
  for (auto* limit : {&options.timeout, &options.grace_time}) *limit = std::min(*limit, kLongestTimeout);
  const auto started = started_rank();
  if (started && started->world_size > 1) {
    check_started(*started, options);
    if (options.num_processes == 1 && options.num_machines == 1) {
      const QuietConnections quiet;
      return run_started_rank(main, *started, options);
    }
  }
  if (options.num_processes == 1 && options.num_machines == 1 && options.max_restarts == 0)
    return main(make_single_process_group());
  return supervise(main, options);
}

}  // namespace treadle

#include <launch/supervisor.hpp>
#include <treadle/base/errors.hpp>
#include <treadle/base/log.hpp>

#include <fmt/format.h>
#include <poll.h>
#include <string.h>
#include <sys/wait.h>

#include <algorithm>
#include <array>
#include <csignal>

namespace treadle {
namespace {

constexpr int kSignalStatus = 128;  // the shell's convention

std::string signal_text(int number) {
  const char* name = sigabbrev_np(number);
  return name == nullptr ? fmt::format("signal {}", number) : fmt::format("signal {} (SIG{})", number, name);
}

Failure failure_of(const RankReport& report, int rank) {
  using Kind = RankReport::Kind;
  Failure failure{.rank = rank, .text = report.text, .time = report.time};
  failure.kind = report.kind == Kind::lost_others ? Failure::Kind::lost_others : Failure::Kind::failed;
  failure.may_restart = report.kind != Kind::wrong_settings;
  if (report.kind == Kind::finished) {
    failure.exception = false;
    failure.status = report.status;
    failure.text = fmt::format("exit status {}", report.status);
  }
  return failure;
}

}  // namespace

Outcome Supervisor::run(std::int64_t generation) {
  generation_ = generation;
  ranks_.assign(static_cast<std::size_t>(options_.num_processes), {});
  failures_.clear();
  sent_.clear();
  kill_at_ = lost_at_ = Clock::time_point::max();
  stopped_note_.clear();
  interrupted_status_ = 0;
  told_to_end_ = sweeping_ = swept_ = false;
  running_ = true;
  nursery_.start(generation);
  while (!swept_) step();
  running_ = false;
  return decide();
}

void Supervisor::step() {
  std::array<pollfd, 3> sources{
      {{nursery_.descriptor(), POLLIN, 0}, {reports_.descriptor(), POLLIN, 0}, {signals_.descriptor(), POLLIN, 0}}};
  poll(sources.data(), sources.size(), poll_timeout(std::min(kill_at_, lost_at_)));
  // A rank reports before it ends: whoever is known to have ended has its report here.
  std::vector<Nursery::News> news;
  while (const auto piece = nursery_.next()) {
    news.push_back(*piece);
    if (piece->kind == Nursery::News::Kind::gone) break;
  }
  while (const auto report = reports_.receive()) take(*report);
  for (const auto& piece : news) take(piece);
  while (const auto number = signals_.next()) take_signal(*number);
  expire();
}

void Supervisor::wait_until(Clock::time_point deadline) {
  pollfd source{signals_.descriptor(), POLLIN, 0};
  poll(&source, 1, poll_timeout(deadline));
  while (const auto number = signals_.next()) take_signal(*number);
}

void Supervisor::take(const RankReport& report) {
  if (report.generation != generation_) return;
  ranks_.at(static_cast<std::size_t>(report.local_rank)).reported = true;
  const Failure failure = failure_of(report, global(report.local_rank));
  // Whoever has said how it ended has nothing left to do.
  if (std::all_of(ranks_.begin(), ranks_.end(), [](const Rank& each) { return each.reported || each.ended; }))
    kill_at_ = std::min(kill_at_, Clock::now() + options_.grace_time);
  if (report.kind != RankReport::Kind::finished || (report.status != 0 && !ended_by_us(report.status))) fail(failure);
}

void Supervisor::take(const Nursery::News& news) {
  using Kind = Nursery::News::Kind;
  if (news.kind == Kind::swept) {
    swept_ = true;
    return;
  }
  if (news.kind == Kind::gone) throw Error("the process that holds the ranks was killed; the run has ended");
  Rank& rank = ranks_.at(static_cast<std::size_t>(news.local_rank));
  switch (news.kind) {
    case Kind::ended:
      take_end(rank, news);
      break;
    case Kind::not_started:
      rank.ended = true;
      fail({.rank = global(news.local_rank),
            .text = fmt::format("cannot be started: {}", strerror(news.value)),
            .time = news.time});
      break;
    case Kind::stopped:
      rank.stopped_by = news.value;
      if (!sent_.contains(news.value)) {
        log_warning(
            fmt::format("rank {} was stopped by {}; the others wait for it", global(news.local_rank), signal_text(news.value)));
      }
      break;
    default:
      rank.stopped_by = 0;
      break;
  }
  const auto ended = std::count_if(ranks_.begin(), ranks_.end(), [](const Rank& each) { return each.ended; });
  if (ended == options_.num_processes) {
    sweep();
  } else if (ended > 0) {
    if (interrupted_by_ != 0) kill_at_ = std::min(kill_at_, Clock::now() + options_.grace_time);
    const bool stopped = std::any_of(ranks_.begin(), ranks_.end(), [](const Rank& each) { return each.stopped_by != 0; });
    lost_at_ = stopped ? std::min(lost_at_, Clock::now() + options_.timeout) : Clock::time_point::max();
  }
}

void Supervisor::take_end(Rank& rank, const Nursery::News& news) {
  rank.ended = true;
  rank.stopped_by = 0;
  if (rank.reported) return;
  Failure failure{.rank = global(news.local_rank), .time = news.time};
  if (WIFSIGNALED(news.value)) {
    const int number = WTERMSIG(news.value);
    failure.status = kSignalStatus + number;
    failure.text = "killed by " + signal_text(number);
  } else {
    failure.status = std::max(1, WEXITSTATUS(news.value));
    failure.text = fmt::format("the process ended by itself, with exit status {}", WEXITSTATUS(news.value));
  }
  if (!ended_by_us(failure.status)) fail(failure);
}

bool Supervisor::ended_by_us(int status) {
  if (!sent_.contains(status - kSignalStatus)) return false;
  if (interrupted_by_ != 0 && interrupted_status_ == 0) interrupted_status_ = status;
  return true;
}

void Supervisor::fail(Failure failure) {
  if (failures_.empty()) {
    for (int local = 0; local < options_.num_processes; ++local) {
      const int number = ranks_[static_cast<std::size_t>(local)].stopped_by;
      if (number != 0) stopped_note_ += fmt::format(" (rank {} was stopped by {})", global(local), signal_text(number));
    }
  }
  failures_.push_back(std::move(failure));
  if (!told_to_end_) tell_all_to_end();
  kill_at_ = std::min(kill_at_, Clock::now() + options_.grace_time);
}

void Supervisor::tell_all_to_end() {
  told_to_end_ = true;
  sent_.insert(SIGTERM);
  nursery_.signal(SIGTERM);
  nursery_.signal(SIGCONT);
}

void Supervisor::sweep() {
  kill_at_ = lost_at_ = Clock::time_point::max();
  if (!sweeping_) nursery_.sweep();
  sweeping_ = true;
}

void Supervisor::take_signal(int number) {
  if (number == SIGCHLD) {
    if (nursery_.keep_going()) log_warning("the process that holds the ranks was stopped; it goes on");
    return;
  }
  if (number == SIGTSTP) {
    sent_.insert(SIGTSTP);
    nursery_.signal(SIGTSTP);
    raise(SIGSTOP);
    nursery_.signal(SIGCONT);
    return;
  }
  interrupted_by_ = number;
  if (!running_) return;
  told_to_end_ = true;
  sent_.insert(number);
  nursery_.signal(number);
}

void Supervisor::expire() {
  const auto now = Clock::now();
  if (now >= lost_at_ && failures_.empty()) {
    lost_at_ = Clock::time_point::max();
    for (int local = 0; local < options_.num_processes; ++local) {
      const Rank& rank = ranks_[static_cast<std::size_t>(local)];
      if (rank.ended || rank.stopped_by == 0) continue;
      fail({.rank = global(local),
            .text =
                fmt::format("did not end within {} s after the others", std::chrono::duration<double>(options_.timeout).count()),
            .time = now});
      return;
    }
  }
  if (now < kill_at_) return;
  sent_.insert(SIGKILL);
  sweep();
}

Outcome Supervisor::decide() const {
  if (failures_.empty()) {
    if (interrupted_status_ == 0) return {};
    return {.failure = Failure{.rank = options_.first_rank,
                               .status = interrupted_status_,
                               .exception = false,
                               .may_restart = false,
                               .text = "ended by a signal of the user"}};
  }
  const auto earlier = [](const Failure& a, const Failure& b) { return a.time < b.time; };
  const Failure& first = *std::min_element(failures_.begin(), failures_.end(), earlier);
  Failure cause = first;
  if (first.kind == Failure::Kind::lost_others && stopped_note_.empty()) {
    // A process that dies closes its connections a moment before its parent learns of it.
    constexpr std::chrono::seconds moment(1);
    for (const Failure& each : failures_) {
      const bool explains = each.kind == Failure::Kind::failed && each.time < first.time + moment;
      if (explains && (cause.kind == Failure::Kind::lost_others || each.time < cause.time)) cause = each;
    }
  }
  cause.text += stopped_note_;
  cause.may_restart = cause.may_restart && interrupted_by_ == 0;
  return {.failure = cause};
}

}  // namespace treadle

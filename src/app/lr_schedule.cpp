#include <app/lr_schedule.hpp>

#include <algorithm>

namespace treadle {
namespace {

/// How often the rate leaves a level after the warm-up; 0 for schedules without levels.
std::size_t levels_left(const LRSchedulerOptions& options) {
  if (options.name == "WarmupMultiStepLR") return options.steps.size();
  if (options.name == "WarmupStepWithFixedGammaLR") return static_cast<std::size_t>(options.num_decays);
  return options.name == "WarmupStableDecayLR" ? 1 : 0;
}

}  // namespace

LRSchedule::LRSchedule(const LRSchedulerOptions& options) : options_(options), multiplier_(build_param_scheduler(options)) {}

double LRSchedule::progress(std::int64_t iteration) const {
  return static_cast<double>(iteration) / static_cast<double>(options_.max_iter);
}

double LRSchedule::factor(std::int64_t iteration) const { return multiplier_(progress(iteration)); }

double LRSchedule::lr(std::int64_t iteration) const { return options_.base_lr * factor(iteration); }

std::vector<std::int64_t> LRSchedule::evenly_spaced(std::int64_t count) const {
  const std::int64_t spaces = std::min(count, options_.max_iter) - 1;
  std::vector<std::int64_t> iterations;
  // Parts of the whole run, so that round numbers of iterations give round rows.
  for (std::int64_t i = 0; i < spaces; ++i) {
    const double share = static_cast<double>(i) / static_cast<double>(spaces);
    iterations.push_back(static_cast<std::int64_t>(share * static_cast<double>(options_.max_iter)));
  }
  iterations.push_back(spaces > 0 ? options_.max_iter - 1 : 0);
  return iterations;
}

/// The first iteration in (iteration, end] with another factor than `iteration`, or `end` + 1. A level that was left must not
/// return before `end`. Where a level ends is asked of the schedule itself: its tolerance and RESCALE_INTERVAL move it away from
/// the number in the config.
std::int64_t LRSchedule::change_after(std::int64_t iteration, std::int64_t end) const {
  const double level = factor(iteration);
  if (factor(end) == level) return end + 1;
  std::int64_t changed = end;
  while (changed - iteration > 1) {
    const std::int64_t middle = iteration + (changed - iteration) / 2;
    (factor(middle) == level ? iteration : changed) = middle;
  }
  return changed;
}

/// The first iteration behind the warm-up; 0 without one, max_iter when it never ends.
std::int64_t LRSchedule::warmup_end() const {
  const std::int64_t end = options_.warmup_iters;
  const bool a_level = options_.warmup_method == WarmupMethod::constant && end > 0 && end < options_.max_iter;
  return a_level ? std::min(change_after(0, end), end) : end;
}

std::vector<std::int64_t> LRSchedule::decays() const {
  std::vector<std::int64_t> found;
  const std::int64_t last = options_.max_iter - 1;
  std::int64_t iteration = warmup_end();
  while (found.size() < levels_left(options_) && iteration < last) {
    iteration = change_after(iteration, last);
    if (iteration <= last) found.push_back(iteration);
  }
  return found;
}

std::map<std::int64_t, std::string> LRSchedule::rows(std::int64_t count) const {
  std::map<std::int64_t, std::string> rows;
  const auto note = [&](std::int64_t iteration, const char* text) {
    std::string& notes = rows[iteration];
    notes += (notes.empty() ? "" : ", ") + std::string(text);
  };
  for (std::int64_t iteration : evenly_spaced(count)) rows[iteration];
  if (const std::int64_t end = warmup_end(); end > 0 && end < options_.max_iter) {
    if (options_.warmup_method == WarmupMethod::constant) rows[end - 1];
    note(end, "warm-up is over");
  }
  for (std::int64_t decay : decays()) {
    rows[decay - 1];
    note(decay, "decay");
  }
  note(options_.max_iter - 1, "last iteration");
  return rows;
}

}  // namespace treadle

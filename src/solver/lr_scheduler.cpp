#include <treadle/base/errors.hpp>
#include <treadle/base/log.hpp>
#include <treadle/base/value_view.hpp>
#include <treadle/solver/group_info.hpp>
#include <treadle/solver/lr_scheduler.hpp>
#include <treadle/solver/optimizer_state.hpp>

#include <fmt/format.h>
#include <fmt/ranges.h>
#include <torch/optim/optimizer.h>

#include <algorithm>
#include <cmath>
#include <exception>
#include <utility>

namespace treadle {

LRScheduler::LRScheduler(torch::optim::Optimizer& optimizer, Start start)
    : optimizer_(optimizer), resume_(start.resume), last_iter_(start.last_iter), base_lrs_(std::move(start.base_lrs)) {
  std::size_t groups = optimizer.param_groups().size();
  if (last_iter_ < -1) throw ConfigError(fmt::format("last_iter must be at least -1; it is {}", last_iter_), "last_iter");
  if (base_lrs_.empty() && last_iter_ < 0) base_lrs_ = group_lrs(optimizer);
  if (base_lrs_.size() != groups) {
    throw ConfigError(
        fmt::format("base_lrs must hold one rate for each of the optimizer's {} groups when last_iter is given; it holds {}",
                    groups, base_lrs_.size()),
        "base_lrs");
  }
  tell_base_lrs();
}

std::vector<double> LRScheduler::all_base_lrs() const {
  std::vector<double> lrs = group_lrs(optimizer_);
  std::copy_n(base_lrs_.begin(), std::min(base_lrs_.size(), lrs.size()), lrs.begin());
  return lrs;
}

void LRScheduler::tell_base_lrs() {
  auto* holder = dynamic_cast<GroupInfoHolder*>(&optimizer_);
  for (std::size_t i = 0; holder && i < base_lrs_.size(); ++i) holder->group_info(i).initial_lr = base_lrs_[i];
}

std::vector<double> LRScheduler::base_lrs_to_load(const List& saved) const {
  std::vector<double> lrs;
  for (const Value& lr : saved) lrs.push_back(lr.as_double());
  // A group added since may have the rate of a loaded optimizer by now, which is no base rate: there the saved one counts too.
  if (resume_ == ResumeSettings::current) std::copy_n(base_lrs_.begin(), std::min(base_lrs_.size(), lrs.size()), lrs.begin());
  return lrs;
}

void LRScheduler::compute_legal_lrs(std::int64_t iter, const std::vector<double>& base_lrs, std::vector<double>& lrs) const {
  compute_lrs(iter, base_lrs, lrs);
  for (std::size_t i = 0; i < base_lrs.size(); ++i) {
    const double lr = lrs.at(i);
    if (lr >= 0 && std::isfinite(lr)) continue;
    throw Error(fmt::format(
        "the schedule gives parameter group {} the learning rate {} at iteration {}; a rate must be finite and not negative", i,
        lr, iter));
  }
}

void LRScheduler::step() { go_to(last_iter_ + 1); }
void LRScheduler::apply() { go_to(last_iter_); }

void LRScheduler::go_to(std::int64_t iter) {
  auto& groups = optimizer_.param_groups();
  if (base_lrs_.size() != groups.size()) {
    base_lrs_ = all_base_lrs();
    tell_base_lrs();
  }
  next_lrs_.resize(groups.size());
  compute_legal_lrs(iter, base_lrs_, next_lrs_);
  last_iter_ = iter;
  for (std::size_t i = 0; i < groups.size(); ++i) groups[i].options().set_lr(next_lrs_[i]);
  std::swap(last_lrs_, next_lrs_);
}

std::vector<double> LRScheduler::get_lr() const {
  std::vector<double> lrs(base_lrs_.size());
  compute_lrs(last_iter_, base_lrs_, lrs);
  return lrs;
}

Dict LRScheduler::state_dict() const {
  List base_lrs;
  for (double lr : all_base_lrs()) base_lrs.push_back(lr);
  return {{"base_lrs", std::move(base_lrs)}, {"last_epoch", last_iter_}};
}

void LRScheduler::check_state_dict(const Dict& state) const {
  ValueView view(state);
  ValueView rates = view["base_lrs"];
  const List& saved = rates.as_list();
  const std::size_t groups = optimizer_.param_groups().size();
  if (saved.size() != groups)
    rates.fail(fmt::format("holds {} learning rates, but the optimizer has {} parameter groups", saved.size(), groups));
  for (std::size_t i = 0; i < saved.size(); ++i) {
    double lr = rates.item(i).as_double();
    if (!(lr >= 0) || std::isinf(lr))
      rates.item(i).fail(fmt::format("a learning rate must be finite and not negative, not {}", lr));
  }
  const ValueView iteration = view["last_epoch"];
  if (iteration.as_int() < 0) iteration.fail("must not be negative");
  std::vector<double> lrs(groups);
  try {
    compute_legal_lrs(iteration.as_int(), base_lrs_to_load(saved), lrs);
  } catch (const std::exception& error) {
    iteration.fail(fmt::format("there are no learning rates for iteration {}: {}", iteration.as_int(), error.what()));
  }
}

void LRScheduler::load_state_dict(const Dict& state) {
  check_state_dict(state);
  const List& saved = state.at("base_lrs").as_list();
  base_lrs_ = base_lrs_to_load(saved);
  std::vector<double> saved_lrs;
  for (const Value& lr : saved) saved_lrs.push_back(lr.as_double());
  if (saved_lrs != base_lrs_) {
    log_warning(
        fmt::format("the base learning rate differs from the one in the state that is resumed: using {} instead of the saved {}",
                    fmt::join(base_lrs_, ", "), fmt::join(saved_lrs, ", ")));
  }
  tell_base_lrs();
  go_to(state.at("last_epoch").as_int());
}

LRMultiplier::LRMultiplier(torch::optim::Optimizer& optimizer, ParamScheduler multiplier, const LRMultiplierOptions& options)
    : LRScheduler(optimizer, {.last_iter = options.last_iter, .base_lrs = options.base_lrs, .resume = options.resume}),
      multiplier_(std::move(multiplier)),
      max_iter_(options.max_iter) {
  if (!multiplier_) throw ConfigError("LRMultiplier needs a schedule; the one it got is empty", "multiplier");
  if (max_iter_ <= 0) {
    throw ConfigError(fmt::format("LRMultiplierOptions.max_iter must be above 0; it is {}", max_iter_),
                      "LRMultiplierOptions.max_iter");
  }
  step();
}

void LRMultiplier::compute_lrs(std::int64_t iter, const std::vector<double>& base_lrs, std::vector<double>& lrs) const {
  const double progress = static_cast<double>(iter) / static_cast<double>(max_iter_);
  double multiplier = 0;
  try {
    multiplier = multiplier_(progress);
  } catch (const Error&) {
    // A schedule that ends a little before 1 is no reason to lose the end of the run.
    if (iter > max_iter_ || progress + kProgressEpsilon < 1) throw;
    const double before = static_cast<double>(max_iter_ - 1) / static_cast<double>(max_iter_);
    multiplier = multiplier_(std::min(before, 1 - 2 * kProgressEpsilon));
  }
  for (std::size_t i = 0; i < lrs.size(); ++i) lrs[i] = base_lrs[i] * multiplier;
}

std::unique_ptr<LRScheduler> build_lr_scheduler(const LRSchedulerOptions& options, torch::optim::Optimizer& optimizer) {
  return std::make_unique<LRMultiplier>(optimizer, build_param_scheduler(options),
                                        LRMultiplierOptions{.max_iter = options.max_iter, .resume = options.resume});
}

}  // namespace treadle

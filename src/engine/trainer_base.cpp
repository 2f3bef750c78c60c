#include <base/exception_text.hpp>
#include <treadle/base/errors.hpp>
#include <treadle/base/log.hpp>
#include <treadle/engine/trainer_base.hpp>

#include <fmt/format.h>

#include <algorithm>
#include <utility>

namespace treadle {

namespace {

/// While it lives the list of hooks is being walked and must not change.
class CallingHooks {
 public:
  explicit CallingHooks(bool& flag) : flag_(flag) { flag_ = true; }
  ~CallingHooks() { flag_ = false; }
  CallingHooks(const CallingHooks&) = delete;
  CallingHooks& operator=(const CallingHooks&) = delete;

 private:
  bool& flag_;
};

}  // namespace

std::string_view to_string(Outcome outcome) noexcept {
  constexpr std::string_view names[] = {"not started", "running", "completed", "stopped", "failed"};
  return names[static_cast<std::size_t>(outcome)];
}

TrainerBase::TrainerBase(TrainerOptions options)
    : group_(options.group ? std::move(options.group) : make_single_process_group()), storage_(0, options.events) {}

TrainerBase::~TrainerBase() = default;

void TrainerBase::train(std::int64_t start_iter, std::int64_t max_iter) {
  start_training(start_iter, max_iter);
  CurrentEventStorage current(storage_);
  while (advance()) {
  }
}

void TrainerBase::start_training(std::int64_t start_iter, std::int64_t max_iter) {
  begin(start_iter, max_iter);
  CurrentEventStorage current(storage_);
  try {
    before_train();
    finish_resumed_iteration();
  } catch (...) {
    finish(std::current_exception());
  }
}

bool TrainerBase::run_iteration() {
  if (outcome_ != Outcome::running) throw Error("run_iteration was called without a run; call start_training first");
  CurrentEventStorage current(storage_);
  return advance();
}

void TrainerBase::begin(std::int64_t start_iter, std::int64_t max_iter) {
  if (outcome_ == Outcome::running) throw Error("train or start_training was called while the trainer is running");
  if (start_iter < 0 || max_iter < start_iter) {
    throw Error(fmt::format("train({}, {}) has no iterations: 0 <= start_iter <= max_iter is needed", start_iter, max_iter));
  }
  if (group_->is_broken()) group_->rebuild();
  exchange_.reset();
  in_step_ = returned_ = false;
  stop_verdict_ = false;
  after_train_failure_ = nullptr;
  iter_ = start_iter_ = start_iter;
  max_iter_ = max_iter;
  completed_ = start_iter - 1;
  storage_.set_iter(start_iter);
  {
    std::lock_guard lock(stop_mutex_);
    if (!stop_requested_) stop_reason_.clear();  // that of the run before
  }
  outcome_ = Outcome::running;
  log_info(fmt::format("Starting training from iteration {}", start_iter));
}

/// Runs one iteration, or ends the run and returns false.
bool TrainerBase::advance() {
  std::exception_ptr failure;
  try {
    if (iter_ < max_iter_ && !stop_decided()) {
      iterate();
      return true;
    }
    finish_steps();
  } catch (...) {
    failure = std::current_exception();
  }
  finish(failure);
  return false;
}

void TrainerBase::iterate() {
  exchanged_this_step_ = false;
  before_step();
  in_step_ = true;
  run_step();
  in_step_ = false;
  if (!std::exchange(returned_, false)) {
    completed_ = iter_;
    after_step();
  }
  ++iter_;
}

bool TrainerBase::stop_decided() {
  if (group_->get_world_size() == 1) return stop_requested_;
  if (!exchanged_this_step_ && completed_ >= start_iter_) {
    start_exchange({});
    finish_exchange();
  }
  return stop_verdict_;
}

void TrainerBase::finish_resumed_iteration() {
  if (!resume_) return;
  const Resume resume = *std::exchange(resume_, std::nullopt);
  if (resume.position.iteration + 1 != start_iter_) {
    log_warning(fmt::format("the loaded state belongs to iteration {}, but training starts at {}: nothing is caught up",
                            resume.position.iteration, start_iter_));
    return;
  }
  if (resume.restore) resume.restore();
  const auto is_behind = [&](const std::string& key) {
    const auto& behind = resume.position.hooks_behind;
    return std::find(behind.begin(), behind.end(), key) != behind.end();
  };
  iter_ = completed_;
  storage_.set_iter(iter_);
  const CallingHooks calling(calling_hooks_);
  for (std::size_t i = 0; i < hooks_.size(); ++i) {
    if (!is_behind(hooks_[i].key)) continue;
    in_after_step_ = i;
    hooks_[i].hook->after_step(*this);
  }
  in_after_step_.reset();
  iter_ = start_iter_;
  storage_.set_iter(iter_);
}

void TrainerBase::finish(std::exception_ptr failure) {
  in_after_step_.reset();
  if (failure) {
    outcome_ = Outcome::failed;
    const std::string text = exception_text(failure);
    log_error(fmt::format("Exception during training in iteration {}: {}", iter_, text));
    group_->mark_broken(fmt::format("training failed in iteration {}: {}", iter_, text));
  } else if (iter_ < max_iter_) {
    outcome_ = Outcome::stopped;
    const std::string reason = stop_reason();
    log_info(fmt::format("Stopping after iteration {}{}", completed_, reason.empty() ? "" : ": " + reason));
  } else {
    outcome_ = Outcome::completed;
  }
  try {
    after_train();
  } catch (...) {
    log_error(fmt::format("Exception in after_train in iteration {}: {}", iter_, exception_text(std::current_exception())));
    if (!after_train_failure_) after_train_failure_ = std::current_exception();
  }
  stop_requested_ = false;
  if (!failure) failure = after_train_failure_;
  if (failure) {
    outcome_ = Outcome::failed;
    std::rethrow_exception(failure);
  }
}

template <class Call>
void TrainerBase::call_hooks(const Call& call) {
  const CallingHooks calling(calling_hooks_);
  for (Registered& registered : hooks_) call(*registered.hook);
}

void TrainerBase::before_train() {
  call_hooks([this](HookBase& hook) { hook.before_train(*this); });
}

void TrainerBase::before_step() {
  storage_.set_iter(iter_);
  call_hooks([this](HookBase& hook) { hook.before_step(*this); });
}

void TrainerBase::after_backward() {
  call_hooks([this](HookBase& hook) { hook.after_backward(*this); });
}

void TrainerBase::after_step() {
  const CallingHooks calling(calling_hooks_);
  for (std::size_t i = 0; i < hooks_.size(); ++i) {
    in_after_step_ = i;
    hooks_[i].hook->after_step(*this);
  }
  in_after_step_.reset();
}

void TrainerBase::after_train() {
  storage_.set_iter(iter_);
  const CallingHooks calling(calling_hooks_);
  for (Registered& registered : hooks_) {
    try {
      registered.hook->after_train(*this);
    } catch (...) {
      const auto failure = std::current_exception();
      log_error(
          fmt::format("Exception in after_train of {} in iteration {}: {}", registered.key, iter_, exception_text(failure)));
      if (!after_train_failure_) after_train_failure_ = failure;
    }
  }
}

void TrainerBase::request_stop(std::string reason) {
  std::lock_guard lock(stop_mutex_);
  if (stop_requested_) return;
  stop_reason_ = std::move(reason);
  stop_requested_ = true;
}

std::string TrainerBase::stop_reason() const {
  std::lock_guard lock(stop_mutex_);
  return stop_reason_;
}

void TrainerBase::start_exchange(const StepFacts& facts) { exchange_.start(*group_, facts, stop_requested_); }

const StepVerdict& TrainerBase::finish_exchange() {
  const StepVerdict& verdict = exchange_.wait(*group_);
  exchanged_this_step_ = true;
  stop_verdict_ = stop_verdict_ || verdict.stop;
  return verdict;
}

void TrainerBase::abandon_step() {
  exchange_.reset();
  if (outcome_ == Outcome::running || group_->get_world_size() == 1) return;
  group_->mark_broken(fmt::format("the step of iteration {} failed: {}", iter_, exception_text(std::current_exception())));
}

}  // namespace treadle

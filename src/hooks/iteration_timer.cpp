#include <treadle/base/errors.hpp>
#include <treadle/base/log.hpp>
#include <treadle/base/text.hpp>
#include <treadle/engine/trainer_base.hpp>
#include <treadle/hooks/iteration_timer.hpp>

#include <fmt/format.h>

#include <chrono>

namespace treadle::hooks {
namespace {

double steady_seconds() { return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count(); }

}  // namespace

IterationTimer::IterationTimer(std::int64_t warmup_iter, std::function<double()> clock)
    : warmup_iter_(warmup_iter), clock_(clock ? std::move(clock) : steady_seconds) {
  if (warmup_iter < 0) throw ConfigError(fmt::format("IterationTimer: warmup_iter is {}; at least 0 is needed", warmup_iter));
}

void IterationTimer::before_train(TrainerBase&) {
  start_ = clock_();
  steps_total_ = 0;
  step_open_ = false;
}

void IterationTimer::before_step(TrainerBase&) {
  step_start_ = clock_();
  step_open_ = true;
}

void IterationTimer::after_step(TrainerBase& trainer) {
  // The iteration that a resumed run completes was begun by another process.
  if (!step_open_) return;
  step_open_ = false;
  const double now = clock_();
  const bool warming_up = trainer.iter() - trainer.start_iter() + 1 < warmup_iter_;
  // A resumed run has no gap in its record, or its lines would differ from those of a run that was never stopped.
  if (!warming_up || trainer.storage().find_history("time") != nullptr) trainer.storage().put_scalar("time", now - step_start_);
  if (warming_up) {
    start_ = now;
    return;
  }
  steps_total_ += now - step_start_;
}

void IterationTimer::after_train(TrainerBase& trainer) {
  const double now = clock_();
  // A step that failed counts with the time until here.
  const double in_steps = steps_total_ + (step_open_ ? now - step_start_ : 0);
  const double total = now - start_;
  const std::int64_t iterations = trainer.iter() + 1 - trainer.start_iter() - warmup_iter_;
  if (iterations > 0 && in_steps > 0) {
    log_info(fmt::format("Overall training speed: {} iterations in {} ({:.4f} s / it)", iterations, format_duration(in_steps),
                         in_steps / static_cast<double>(iterations)));
  }
  log_info(fmt::format("Total training time: {} ({} on hooks)", format_duration(total), format_duration(total - in_steps)));
}

}  // namespace treadle::hooks

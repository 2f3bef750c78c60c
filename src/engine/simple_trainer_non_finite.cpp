// Steps that are not finite.
#include "engine/snapshot.hpp"
#include "engine/step_record.hpp"

#include <treadle/base/errors.hpp>
#include <treadle/base/log.hpp>
#include <treadle/data/batch_source.hpp>
#include <treadle/models/model.hpp>

#include <fmt/format.h>
#include <fmt/ranges.h>
#include <torch/optim/optimizer.h>

#include <cmath>
#include <limits>
#include <utility>
#include <vector>

namespace treadle {

namespace {

/// The largest magnitude; a sum of finite numbers need not be finite, least of all in float16.
at::Tensor largest_gradient(const torch::optim::Optimizer& optimizer) {
  std::vector<at::Tensor> grads;
  for (const auto& group : optimizer.param_groups()) {
    for (const at::Tensor& param : group.params()) {
      if (!param.grad().defined()) continue;
      const at::Tensor numbers = param.grad().is_sparse() ? param.grad()._values() : param.grad();
      if (numbers.numel() > 0) grads.push_back(numbers);
    }
  }
  return total_norm(grads, std::numeric_limits<double>::infinity());
}

}  // namespace

bool SimpleTrainer::is_finite(const StepVerdict& verdict) const {
  if (!verdict.finite) return false;
  // Reduced gradients are equal on all ranks, so all see the same.
  return !options_.non_finite.check_gradients || std::isfinite(largest_gradient(optimizer_).item<double>());
}

void SimpleTrainer::deal_with_non_finite(TrainerBase& loop, const StepVerdict& verdict) {
  const std::vector<std::int64_t>& ids = told_->ids;
  const std::int64_t iteration = std::exchange(told_->iteration, -1);
  if (!ids.empty())
    log_warning(fmt::format("iteration {} had the samples {} of \"{}\"", iteration, fmt::join(ids, ", "), source_.name()));
  const NonFiniteError error(iteration, verdict.losses, ids);
  switch (options_.non_finite.action) {
    case NonFiniteAction::skip:
      return skip(loop, error);
    case NonFiniteAction::roll_back:
      return roll_back(loop, error);
    case NonFiniteAction::stop:
      throw NonFiniteError(error);
  }
}

void SimpleTrainer::skip(TrainerBase& loop, const NonFiniteError& error) {
  if (skipped_steps_ >= options_.non_finite.max_skips) throw NonFiniteError(error);
  ++skipped_steps_;
  log_warning(
      fmt::format("{}: the step is skipped ({} of at most {})", error.what(), skipped_steps_, options_.non_finite.max_skips));
  loop.storage().put_scalar("skipped_steps", static_cast<double>(skipped_steps_), /*smoothing_hint=*/false);
  step_left_out();
}

void SimpleTrainer::keep_state_for(TrainerBase& loop) {
  if (options_.non_finite.action != NonFiniteAction::roll_back) return;
  const bool due = loop.iter() % options_.non_finite.rollback_period == 0 && snapshot_->next_iteration() != loop.iter();
  if (due || loop.iter() == loop.start_iter()) snapshot_->take(loop, *model_);
}

void SimpleTrainer::roll_back(TrainerBase& loop, const NonFiniteError& error) {
  if (snapshot_->next_iteration() < 0) log_warning("no state was kept that the run could go back to; see keep_state_for");
  if (rollbacks_ >= options_.non_finite.max_rollbacks || snapshot_->next_iteration() < 0) throw NonFiniteError(error);
  const std::int64_t count = rollbacks_ + 1;
  step_left_out();
  norm_of_before_.reset();
  snapshot_->restore(loop, *model_);
  rollbacks_ = count;  // the restored state has an earlier one
  log_warning(fmt::format("{}: back to the state before iteration {}, on with the next batch ({} of at most {})", error.what(),
                          snapshot_->next_iteration(), count, options_.non_finite.max_rollbacks));
  loop.storage().put_scalar("rollbacks", static_cast<double>(count), /*smoothing_hint=*/false, snapshot_->next_iteration());
}

}  // namespace treadle

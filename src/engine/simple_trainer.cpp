#include "engine/snapshot.hpp"
#include "engine/step_record.hpp"
#include "engine/unit_gradient.hpp"

#include <treadle/base/errors.hpp>
#include <treadle/base/log.hpp>
#include <treadle/base/module_state.hpp>
#include <treadle/data/batch_source.hpp>
#include <treadle/engine/distributed_model.hpp>
#include <treadle/engine/simple_trainer.hpp>
#include <treadle/models/model.hpp>
#include <treadle/solver/optimizer_state.hpp>

#include <ATen/ops/empty_like.h>
#include <fmt/format.h>
#include <torch/optim/lbfgs.h>
#include <torch/optim/optimizer.h>

#include <chrono>
#include <cmath>
#include <utility>
#include <vector>

namespace treadle {

namespace {

void require_at_least(std::int64_t least, const char* field, std::int64_t found) {
  if (found < least) {
    throw ConfigError(fmt::format("SimpleTrainerOptions.{} is {}; at least {} is needed", field, found, least),
                      std::string("SimpleTrainerOptions.") + field);
  }
}

}  // namespace

void validate(const SimpleTrainerOptions& options) {
  require_at_least(1, "gather_metric_period", options.gather_metric_period);
  require_at_least(1, "batches_per_step", options.batches_per_step);
  require_at_least(0, "non_finite.max_skips", options.non_finite.max_skips);
  require_at_least(1, "non_finite.rollback_period", options.non_finite.rollback_period);
  require_at_least(0, "non_finite.max_rollbacks", options.non_finite.max_rollbacks);
  if (options.async_write_metrics && (options.non_finite.action != NonFiniteAction::stop || options.non_finite.check_gradients)) {
    throw ConfigError(
        "SimpleTrainerOptions.async_write_metrics notices losses that are not finite when the optimizer has run: "
        "non_finite.action "
        "must be stop and non_finite.check_gradients false",
        "SimpleTrainerOptions.async_write_metrics");
  }
  if (options.clip.enabled) validate(options.clip);
}

namespace {

double seconds_since(std::chrono::steady_clock::time_point start) {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

void check_losses(const LossDict& losses, std::int64_t iteration) {
  if (losses.empty()) throw Error(fmt::format("the model gave no losses in iteration {}", iteration));
  bool differentiable = false;
  for (const auto& [name, loss] : losses) {
    if (!loss.defined() || loss.numel() != 1) {
      throw Error(
          fmt::format("the loss \"{}\" is not a scalar in iteration {}; reduce it, for instance by its mean", name, iteration));
    }
    differentiable = differentiable || loss.requires_grad();
  }
  if (!differentiable) {
    throw Error(fmt::format(
        "no loss needs a gradient in iteration {}: first of them \"{}\"; are all parameters frozen, or is a NoGradGuard "
        "in force?",
        iteration, losses.front().first));
  }
}

at::Tensor sum_of(const LossDict& losses) {
  at::Tensor total = losses.front().second;
  for (std::size_t i = 1; i < losses.size(); ++i) total = total + losses[i].second;
  return total;
}

bool ends_the_run(const TrainerBase& loop) { return loop.outcome() == Outcome::running && loop.iter() + 1 >= loop.max_iter(); }

bool all_finite(const NamedNumbers& numbers) {
  for (const auto& [name, value] : numbers) {
    if (!std::isfinite(value)) return false;
  }
  return true;
}

}  // namespace

SimpleTrainer::SimpleTrainer(std::shared_ptr<Model> model, BatchSource& source, torch::optim::Optimizer& optimizer,
                             SimpleTrainerOptions options)
    : TrainerBase(options.trainer),
      model_(std::move(model)),
      distributed_(dynamic_cast<DistributedModel*>(model_.get())),
      source_(source),
      optimizer_(optimizer),
      options_(std::move(options)),
      now_(std::make_unique<StepRecord>()),
      told_(std::make_unique<StepRecord>()),
      snapshot_(std::make_unique<Snapshot>()),
      unit_gradient_(std::make_unique<UnitGradient>()),
      clips_by_itself_(dynamic_cast<const ClippingOptimizer*>(&optimizer)),
      needs_closure_(options_.closure.value_or(dynamic_cast<const torch::optim::LBFGS*>(&optimizer) != nullptr)) {
  if (!model_) throw Error("SimpleTrainer needs a model, found a null pointer");
  validate(options_);
  if (options_.clip.enabled) {
    if (clips_by_itself_) {
      throw ConfigError(
          "SimpleTrainerOptions.clip is enabled, but the optimizer clips by itself: gradients would be clipped twice",
          "SimpleTrainerOptions.clip");
    }
    clipper_ = create_gradient_clipper(options_.clip);
  }
  if (needs_closure_ && options_.batches_per_step > 1) {
    throw ConfigError(
        "SimpleTrainerOptions.batches_per_step must be 1 for an optimizer with a closure, which computes one batch anew",
        "SimpleTrainerOptions.batches_per_step");
  }
  optimizer_state_ = optimizer_stateful(optimizer_, options_.resume);
  if (const auto parameters = named_parameters(*model_); !parameters.empty()) first_parameter_ = parameters.front().tensor;
  model_->train();
}

SimpleTrainer::~SimpleTrainer() = default;

/// Never empty; an optional, as the source gives it, so that a batch is not moved.
std::optional<Batch> SimpleTrainer::next_batch(const TrainerBase& loop) {
  const auto start = std::chrono::steady_clock::now();
  std::optional<Batch> batch = source_.next();
  if (!batch) {
    throw Error(fmt::format("the batches of \"{}\" ended before iteration {} of {}; training needs a source without end",
                            source_.name(), loop.iter(), loop.max_iter()));
  }
  if (first_parameter_.defined() && !first_parameter_.is_cpu()) batch = batch->to(first_parameter_.device());
  now_->data_time += seconds_since(start);
  if (!batch->ids().empty()) now_->ids.insert(now_->ids.end(), batch->ids().begin(), batch->ids().end());
  return batch;
}

LossDict SimpleTrainer::compute_losses(const Batch& batch) { return model_->losses(batch); }
void SimpleTrainer::backward(const at::Tensor& loss) {
  if (distributed_)
    distributed_->backward(loss);
  else
    unit_gradient_->backward(loss);
}
bool SimpleTrainer::update(const std::function<at::Tensor()>& closure) {
  optimizer_.step(closure);
  return true;
}

LossDict SimpleTrainer::forward(const TrainerBase& loop, const Batch& batch, bool first) {
  LossDict losses = compute_losses(batch);
  check_losses(losses, loop.iter());
  now_->losses.add(losses, first, loop.iter());
  return losses;
}

void SimpleTrainer::run_step_for(TrainerBase& loop) {
  try {
    step(loop);
  } catch (...) {
    loop.abandon_step();
    throw;
  }
}

void SimpleTrainer::step(TrainerBase& loop) {
  if (!options_.async_write_metrics) finish_for(loop);  // what a state left pending
  const std::int64_t batches = options_.batches_per_step;
  now_->iteration = loop.iter();
  now_->data_time = 0;
  now_->ids.clear();
  std::optional<Batch> batch = next_batch(loop);
  at::Tensor loss;
  for (std::int64_t k = 0; k < batches; ++k) {
    if (k > 0) batch = next_batch(loop);
    if (k == 0 && options_.zero_grad_before_forward) zero_grad(optimizer_);
    if (distributed_) distributed_->set_gradient_sync(k + 1 == batches);
    const LossDict losses = forward(loop, *batch, k == 0);
    if (k + 1 == batches) start_exchange(loop);
    if (k == 0 && !options_.zero_grad_before_forward) zero_grad(optimizer_);
    loss = sum_of(losses);
    if (batches > 1) loss = loss / batches;
    backward(loss);
  }
  loop.after_backward();

  const StepVerdict& verdict = loop.finish_exchange();
  const bool good = before_gradients_are_read();
  if (!is_finite(verdict)) {
    deal_with_non_finite(loop, verdict);
    return;
  }
  record(loop, verdict, *told_);
  if (options_.async_write_metrics) {
    std::swap(now_, told_);
  } else {
    told_->iteration = -1;
  }
  if (good) {
    step_optimizer(*batch, loss);
  } else {
    norm_.reset();
    step_left_out();
  }
  if (gathers(loop.iter())) record_norm(loop.storage());
  // Hooks save the result behind the last step: its losses are judged before, though they are recorded later.
  if (options_.async_write_metrics && ends_the_run(loop)) judge_told(loop);
}

void SimpleTrainer::start_exchange(TrainerBase& loop) {
  if (options_.async_write_metrics) {
    now_->losses.prefetch();
  } else {
    std::swap(now_, told_);
  }
  tell(loop);
}

/// Sends the facts of the step that is told of; none when there is no such step yet.
void SimpleTrainer::tell(TrainerBase& loop) {
  if (told_->iteration >= 0) {
    told_->losses.read(facts_.losses);
    facts_.data_time = told_->data_time;
  } else {
    facts_.losses.clear();
    facts_.data_time = 0;
  }
  facts_.finite = all_finite(facts_.losses);
  loop.start_exchange(facts_);
}

void SimpleTrainer::finish_for(TrainerBase& loop) {
  if (loop.outcome() == Outcome::failed) told_->iteration = -1;
  if (told_->iteration < 0) return;
  record(loop, judge_told(loop), *told_);
  told_->iteration = -1;
}

const StepVerdict& SimpleTrainer::judge_told(TrainerBase& loop) {
  tell(loop);
  const StepVerdict& verdict = loop.finish_exchange();
  if (!verdict.finite) throw NonFiniteError(told_->iteration, verdict.losses, told_->ids);
  return verdict;
}

void SimpleTrainer::before_step() {
  keep_state_for(*this);
  TrainerBase::before_step();
}

void SimpleTrainer::after_train() {
  finish_for(*this);
  TrainerBase::after_train();
}

/// False when the step is to be left out.
bool SimpleTrainer::clip() {
  if (!clipper_) return true;
  std::vector<at::Tensor> parameters;
  for (const auto& group : optimizer_.param_groups())
    parameters.insert(parameters.end(), group.params().begin(), group.params().end());
  norm_ = clipper_(parameters);
  return !norm_ || norm_allows_step(*norm_, options_.clip.non_finite);
}

/// What an optimizer decides by: all ranks must decide alike.
at::Tensor SimpleTrainer::shared_loss(const at::Tensor& loss) const {
  if (!distributed_) return loss.detach();
  double sum = 0;
  const List all = group().all_gather(loss.detach().item<double>());
  for (const Value& value : all) sum += value.as_double();
  return at::empty_like(loss.detach()).fill_(sum / static_cast<double>(all.size()));
}

void SimpleTrainer::step_optimizer(const Batch& batch, const at::Tensor& loss) {
  if (!clip()) {
    step_left_out();
    return;
  }
  bool stepped = false;
  if (!needs_closure_) {
    stepped = update(nullptr);
  } else {
    // The gradients of the first call are there already.
    bool first = true;
    stepped = update([&] {
      if (std::exchange(first, false)) return shared_loss(loss);
      zero_grad(optimizer_);
      const at::Tensor anew = sum_of(compute_losses(batch));
      backward(anew);
      clip();
      return shared_loss(anew);
    });
  }
  if (clips_by_itself_) norm_ = stepped ? clips_by_itself_->last_norm() : std::nullopt;
}

void SimpleTrainer::record_norm(EventStorage& storage) {
  if (!norm_) return;
  if (norm_->is_cpu()) {
    storage.put_scalar("grad_norm", norm_->item<double>());
    return;
  }
  // The loss of this step has been read, so the device is done with the step before.
  if (norm_of_before_) storage.put_scalar("grad_norm", norm_of_before_->item<double>());
  norm_of_before_ = norm_;
}

void SimpleTrainer::record(TrainerBase& loop, const StepVerdict& verdict, const StepRecord& step) const {
  if (step.iteration < 0 || !gathers(step.iteration)) return;
  EventStorage& storage = loop.storage();
  storage.put_scalar("rank_data_time", step.data_time, true, step.iteration);
  storage.put_scalar("data_time", verdict.data_time, true, step.iteration);
  double total = 0;
  bool has_total = false;
  for (const auto& [name, value] : verdict.losses) {
    total += value;
    has_total = has_total || name == "total_loss";
  }
  if (!has_total) storage.put_scalar("total_loss", total, true, step.iteration);
  storage.put_scalars(verdict.losses, true, step.iteration);
}

}  // namespace treadle

#include <treadle/base/errors.hpp>
#include <treadle/base/log.hpp>
#include <treadle/base/module_state.hpp>
#include <treadle/base/value_view.hpp>
#include <treadle/data/batch_source.hpp>
#include <treadle/engine/distributed_model.hpp>
#include <treadle/engine/simple_trainer.hpp>
#include <treadle/models/model.hpp>
#include <treadle/solver/optimizer_state.hpp>

#include <ATen/ops/empty_like.h>
#include <fmt/format.h>
#include <fmt/ranges.h>
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

bool all_finite(const NamedNumbers& numbers) {
  for (const auto& [name, value] : numbers) {
    if (!std::isfinite(value)) return false;
  }
  return true;
}

/// Adds the losses of one of several batches to the sums so far.
void add_losses(const LossDict& losses, bool first, NamedNumbers& sums, std::int64_t iteration) {
  if (first) sums.resize(losses.size());  // keeps the memory of the names
  if (losses.size() != sums.size()) {
    throw Error(fmt::format("the batches of iteration {} gave {} and {} losses; all must give the same", iteration, sums.size(),
                            losses.size()));
  }
  for (std::size_t i = 0; i < losses.size(); ++i) {
    const double value = losses[i].second.detach().item<double>();
    if (first) {
      sums[i].first = losses[i].first;
      sums[i].second = value;
    } else if (sums[i].first != losses[i].first) {
      throw Error(fmt::format("the batches of iteration {} gave the losses \"{}\" and \"{}\"; all must give the same", iteration,
                              sums[i].first, losses[i].first));
    } else {
      sums[i].second += value;
    }
  }
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

Batch SimpleTrainer::next_batch(const TrainerBase& loop) {
  std::optional<Batch> batch = source_.next();
  if (!batch) {
    throw Error(fmt::format("the batches of \"{}\" ended before iteration {} of {}; training needs a source without end",
                            source_.name(), loop.iter(), loop.max_iter()));
  }
  if (!first_parameter_.defined() || first_parameter_.is_cpu()) return *std::move(batch);
  return batch->to(first_parameter_.device());
}

LossDict SimpleTrainer::compute_losses(const Batch& batch) { return model_->losses(batch); }
void SimpleTrainer::backward(const at::Tensor& loss) {
  if (distributed_)
    distributed_->backward(loss);
  else
    loss.backward();
}
void SimpleTrainer::update(const std::function<at::Tensor()>& closure) { optimizer_.step(closure); }

LossDict SimpleTrainer::forward(const TrainerBase& loop, const Batch& batch, std::int64_t k) {
  LossDict losses = compute_losses(batch);
  check_losses(losses, loop.iter());
  add_losses(losses, k == 0, loss_values_, loop.iter());
  return losses;
}

void SimpleTrainer::run_step_for(TrainerBase& loop) {
  const std::int64_t batches = options_.batches_per_step;
  double data_time = 0;
  ids_.clear();
  Batch batch;
  at::Tensor loss;
  for (std::int64_t k = 0; k < batches; ++k) {
    const auto start = std::chrono::steady_clock::now();
    batch = next_batch(loop);
    data_time += seconds_since(start);
    ids_.insert(ids_.end(), batch.ids().begin(), batch.ids().end());

    if (k == 0 && options_.zero_grad_before_forward) optimizer_.zero_grad();
    if (distributed_) distributed_->set_gradient_sync(k + 1 == batches);
    const LossDict losses = forward(loop, batch, k);
    if (k + 1 == batches) {
      if (batches > 1) {
        for (auto& [name, value] : loss_values_) value /= static_cast<double>(batches);
      }
      loop.start_exchange({.losses = loss_values_, .data_time = data_time, .finite = all_finite(loss_values_)});
    }
    if (k == 0 && !options_.zero_grad_before_forward) optimizer_.zero_grad();
    loss = sum_of(losses);
    if (batches > 1) loss = loss / batches;
    backward(loss);
  }
  loop.after_backward();

  const StepVerdict& verdict = loop.finish_exchange();
  before_gradients_are_read();
  if (!is_finite(verdict)) {
    skip(loop, verdict);
    return;
  }
  if (gathers(loop)) record(loop, verdict, data_time);
  step_optimizer(batch, loss);
  if (gathers(loop)) record_norm(loop.storage());
}

bool SimpleTrainer::is_finite(const StepVerdict& verdict) const {
  if (!verdict.finite) return false;
  if (!options_.non_finite.check_gradients) return true;
  // Reduced gradients are equal on all ranks, so all see the same.
  for (const auto& group : optimizer_.param_groups()) {
    if (!std::isfinite(total_grad_norm(group.params(), 1).item<double>())) return false;
  }
  return true;
}

void SimpleTrainer::skip(TrainerBase& loop, const StepVerdict& verdict) {
  const NonFiniteOptions& options = options_.non_finite;
  if (!ids_.empty())
    log_warning(fmt::format("iteration {} had the samples {} of \"{}\"", loop.iter(), fmt::join(ids_, ", "), source_.name()));
  if (options.action == NonFiniteAction::stop || skipped_steps_ >= options.max_skips)
    throw NonFiniteError(loop.iter(), verdict.losses, ids_);
  ++skipped_steps_;
  log_warning(fmt::format("{}: the step is skipped ({} of at most {})", NonFiniteError(loop.iter(), verdict.losses).what(),
                          skipped_steps_, options.max_skips));
  loop.storage().put_scalar("skipped_steps", static_cast<double>(skipped_steps_), /*smoothing_hint=*/false);
  step_left_out();
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
  if (!needs_closure_) {
    update(nullptr);
  } else {
    // The gradients of the first call are there already.
    bool first = true;
    update([&] {
      if (std::exchange(first, false)) return shared_loss(loss);
      optimizer_.zero_grad();
      const at::Tensor anew = sum_of(compute_losses(batch));
      backward(anew);
      clip();
      return shared_loss(anew);
    });
  }
  if (clips_by_itself_) norm_ = clips_by_itself_->last_norm();
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

void SimpleTrainer::record(TrainerBase& loop, const StepVerdict& verdict, double own_data_time) const {
  EventStorage& storage = loop.storage();
  storage.put_scalar("rank_data_time", own_data_time);
  storage.put_scalar("data_time", verdict.data_time);
  double total = 0;
  bool has_total = false;
  for (const auto& [name, value] : verdict.losses) {
    total += value;
    has_total = has_total || name == "total_loss";
  }
  if (!has_total) storage.put_scalar("total_loss", total);
  storage.put_scalars(verdict.losses);
}

Dict SimpleTrainer::state_dict() const {
  Dict state = TrainerBase::state_dict();
  state.set("optimizer", optimizer_state_->state_dict());
  if (skipped_steps_ > 0) state.set("skipped_steps", skipped_steps_);
  return state;
}

void SimpleTrainer::check_state_dict(const Dict& state) const {
  TrainerBase::check_state_dict(state);
  if (const auto skipped = ValueView(state).find("skipped_steps"); skipped && skipped->as_int() < 0)
    skipped->fail("must not be negative");
  try {
    optimizer_state_->check_state_dict(state.at("optimizer").as_dict());
  } catch (const FormatError& error) {
    throw FormatError(std::string("optimizer: ") + error.what());
  }
}

void SimpleTrainer::load_state_dict(const Dict& state) {
  TrainerBase::load_state_dict(state);
  optimizer_state_->load_state_dict(state.at("optimizer").as_dict());
  const Value* skipped = state.find("skipped_steps");
  skipped_steps_ = skipped ? skipped->as_int() : 0;
}

}  // namespace treadle

#include <treadle/base/errors.hpp>
#include <treadle/base/module_state.hpp>
#include <treadle/data/batch_source.hpp>
#include <treadle/engine/simple_trainer.hpp>
#include <treadle/models/model.hpp>
#include <treadle/solver/optimizer_state.hpp>

#include <fmt/format.h>
#include <torch/optim/lbfgs.h>
#include <torch/optim/optimizer.h>

#include <chrono>
#include <cmath>
#include <utility>
#include <vector>

namespace treadle {

void validate(const SimpleTrainerOptions& options) {
  if (options.gather_metric_period < 1) {
    throw ConfigError(
        fmt::format("SimpleTrainerOptions.gather_metric_period is {}; at least 1 is needed", options.gather_metric_period),
        "SimpleTrainerOptions.gather_metric_period");
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

bool all_finite(const NamedNumbers& numbers) {
  for (const auto& [name, value] : numbers) {
    if (!std::isfinite(value)) return false;
  }
  return true;
}

void read_losses(const LossDict& losses, NamedNumbers& numbers) {
  numbers.resize(losses.size());
  for (std::size_t i = 0; i < losses.size(); ++i) {
    numbers[i].first = losses[i].first;
    numbers[i].second = losses[i].second.detach().item<double>();
  }
}

}  // namespace

SimpleTrainer::SimpleTrainer(std::shared_ptr<Model> model, BatchSource& source, torch::optim::Optimizer& optimizer,
                             SimpleTrainerOptions options)
    : TrainerBase(options.trainer),
      model_(std::move(model)),
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

void SimpleTrainer::run_step_for(TrainerBase& loop) {
  const auto start = std::chrono::steady_clock::now();
  const Batch batch = next_batch(loop);
  const double data_time = seconds_since(start);

  if (options_.zero_grad_before_forward) optimizer_.zero_grad();
  const LossDict losses = model_->losses(batch);
  check_losses(losses, loop.iter());
  read_losses(losses, loss_values_);
  loop.start_exchange({.losses = loss_values_, .data_time = data_time, .finite = all_finite(loss_values_)});

  if (!options_.zero_grad_before_forward) optimizer_.zero_grad();
  const at::Tensor total = sum_of(losses);
  total.backward();
  loop.after_backward();

  const StepVerdict& verdict = loop.finish_exchange();
  if (!verdict.finite) throw NonFiniteError(loop.iter(), verdict.losses);
  record(loop, verdict, data_time);
  step_optimizer(batch, total);
  if ((loop.iter() + 1) % options_.gather_metric_period == 0) record_norm(loop.storage());
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

void SimpleTrainer::step_optimizer(const Batch& batch, const at::Tensor& total) {
  if (!clip()) return;
  if (!needs_closure_) {
    optimizer_.step();
  } else {
    // The gradients of the first call are there already.
    bool first = true;
    optimizer_.step([&] {
      if (std::exchange(first, false)) return total.detach();
      optimizer_.zero_grad();
      const at::Tensor loss = sum_of(model_->losses(batch));
      loss.backward();
      clip();
      return loss.detach();
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
  if ((loop.iter() + 1) % options_.gather_metric_period != 0) return;
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
  return state;
}

void SimpleTrainer::check_state_dict(const Dict& state) const {
  TrainerBase::check_state_dict(state);
  try {
    optimizer_state_->check_state_dict(state.at("optimizer").as_dict());
  } catch (const FormatError& error) {
    throw FormatError(std::string("optimizer: ") + error.what());
  }
}

void SimpleTrainer::load_state_dict(const Dict& state) {
  TrainerBase::load_state_dict(state);
  optimizer_state_->load_state_dict(state.at("optimizer").as_dict());
}

}  // namespace treadle

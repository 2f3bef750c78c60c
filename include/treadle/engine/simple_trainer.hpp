#pragma once

#include <treadle/base/batch.hpp>
#include <treadle/engine/trainer_base.hpp>
#include <treadle/models/loss_dict.hpp>
#include <treadle/solver/clipping.hpp>
#include <treadle/solver/optimizer_state.hpp>

#include <functional>
#include <memory>
#include <optional>
#include <vector>

namespace torch::optim {
class Optimizer;
}

namespace treadle {

class BatchSource;
class DistributedModel;
class Model;
class NonFiniteError;
class UnitGradient;

/// What becomes of a step whose losses, or gradients where they are looked at, are infinite or NaN on any rank. The
/// samples of the batch are logged.
enum class NonFiniteAction {
  stop,  ///< NonFiniteError
  skip,  ///< no step of the optimizer, no metrics but "skipped_steps", the number so far
  /// The run goes back to the last kept state: weights, buffers, optimizer, hooks, metrics, random numbers. The source is not
  /// rewound, so the batches since then are not seen again. Recorded: "rollbacks", the number so far. Writers drop what they
  /// wrote since; checkpoints saved since stay until they are overwritten. A state is kept in memory when a run begins and every
  /// `rollback_period` iterations.
  roll_back
};

struct NonFiniteOptions {
  NonFiniteAction action = NonFiniteAction::stop;
  std::int64_t max_skips = 100;        ///< the next one is a NonFiniteError; at least 0
  bool check_gradients = false;        ///< one more pass over the gradients in every step
  std::int64_t rollback_period = 100;  ///< at least 1
  std::int64_t max_rollbacks = 3;      ///< the next one is a NonFiniteError; at least 0
};

struct SimpleTrainerOptions {
  /// Zero the gradients before the forward pass instead of before the backward pass.
  bool zero_grad_before_forward = false;
  /// Record metrics in every n-th iteration; at least 1.
  std::int64_t gather_metric_period = 1;
  /// Read the losses of a step during the next one, so that no step waits for the device. Metrics are then recorded, for their
  /// own iteration, one step later, and losses that are not finite are noticed when the optimizer has run, those of the last step
  /// before hooks save its result: only with `NonFiniteAction::stop`, and without `check_gradients`.
  bool async_write_metrics = false;
  /// Batches whose mean loss makes one step; at least 1.
  std::int64_t batches_per_step = 1;
  /// Clips the gradients before an optimizer that does not clip by itself; see `WithGradientClipping` for those that do.
  GradientClippingOptions clip = {};
  NonFiniteOptions non_finite = {};
  /// Hands the optimizer a closure that computes losses and gradients of the batch anew. Without a value: LBFGS alone gets one.
  std::optional<bool> closure = {};
  /// Whose weight decay counts when a state is loaded that was saved with another.
  ResumeSettings resume = ResumeSettings::current;
  TrainerOptions trainer = {};
};
/// Throws ConfigError that names the field.
void validate(const SimpleTrainerOptions& options);

/// The plain training step: one batch, the model's losses, their sum differentiated, one optimizer step. Loop thread only.
///
/// Records "rank_data_time" and "data_time" (seconds this rank, and the slowest, waited for batches), "total_loss", each loss
/// (with several batches per step their mean), and where gradients are clipped by a norm "grad_norm", the norm before; on an
/// accelerator that of the step recorded before, so that nothing waits for it. With a closure the first losses are recorded and
/// checked, and every gradient is clipped. What is not finite is dealt with before the optimizer runs, on every rank alike.
/// Throws Error when the source ends, or when the losses are empty, not scalar, or need no gradient. The model is put into
/// training mode by the constructor and shared; source and optimizer are borrowed. A batch is moved to the device of the model's
/// first parameter. A DistributedModel exchanges gradients with the last batch of a step alone. State: that of TrainerBase,
/// "optimizer", "skipped_steps" and "rollbacks" where there were any, and with `async_write_metrics` "pending_metrics", the
/// losses of this rank not recorded yet.
class SimpleTrainer : public TrainerBase {
 public:
  /// Throws ConfigError as `validate` does, for a `clip` beside an optimizer that clips by itself, and for several batches a step
  /// with a closure.
  SimpleTrainer(std::shared_ptr<Model> model, BatchSource& source, torch::optim::Optimizer& optimizer,
                SimpleTrainerOptions options = {});
  ~SimpleTrainer() override;

  void run_step() override { run_step_for(*this); }
  /// The step as part of another trainer's loop: iteration, hooks, exchange and current storage are those of `loop`. When it
  /// throws it calls `abandon_step` of `loop`.
  void run_step_for(TrainerBase& loop);
  /// For `before_step` of `loop`, in front of its hooks: keeps the state to roll back to where one is due.
  void keep_state_for(TrainerBase& loop);
  /// For `finish_steps` of `loop`: records metrics that are pending. All ranks. And for its `after_train`, in front of the hooks:
  /// forgets them when the run failed.
  void finish_for(TrainerBase& loop);
  /// The same for a trainer that is its own loop.
  void before_step() override;
  void finish_steps() override { finish_for(*this); }
  void after_train() override;

  Model& model() noexcept { return *model_; }
  torch::optim::Optimizer& optimizer() noexcept { return optimizer_; }
  const SimpleTrainerOptions& options() const noexcept { return options_; }

  Dict state_dict() const override;
  void check_state_dict(const Dict& state) const override;
  void load_state_dict(const Dict& state) override;
  /// "pending_metrics" of this rank.
  Dict rank_state_dict() const override;
  void check_rank_state_dict(const Dict& state) const override;
  void load_rank_state_dict(const Dict& state) override;

 protected:
  /// The parts of a step that another precision does otherwise.
  virtual LossDict compute_losses(const Batch& batch);
  virtual void backward(const at::Tensor& loss);
  /// Called once between the last backward pass and whoever reads the gradients. Returns whether they are good for a step;
  /// otherwise it is left out, and nothing is clipped.
  virtual bool before_gradients_are_read() { return true; }
  /// Returns whether the optimizer made its step.
  virtual bool update(const std::function<at::Tensor()>& closure);
  /// Called instead of `update` in a step that is left out.
  virtual void step_left_out() {}
  bool needs_closure() const noexcept { return needs_closure_; }

 private:
  struct StepRecord;
  class Snapshot;

  void step(TrainerBase& loop);
  std::optional<Batch> next_batch(const TrainerBase& loop);
  LossDict forward(const TrainerBase& loop, const Batch& batch, bool first);
  void start_exchange(TrainerBase& loop);
  void tell(TrainerBase& loop);
  const StepVerdict& judge_told(TrainerBase& loop);
  bool is_finite(const StepVerdict& verdict) const;
  void deal_with_non_finite(TrainerBase& loop, const StepVerdict& verdict);
  void skip(TrainerBase& loop, const NonFiniteError& error);
  void roll_back(TrainerBase& loop, const NonFiniteError& error);
  void record(TrainerBase& loop, const StepVerdict& verdict, const StepRecord& step) const;
  void step_optimizer(const Batch& batch, const at::Tensor& loss);
  bool clip();
  at::Tensor shared_loss(const at::Tensor& loss) const;
  void record_norm(EventStorage& storage);
  bool gathers(std::int64_t iteration) const { return (iteration + 1) % options_.gather_metric_period == 0; }

  std::shared_ptr<Model> model_;
  DistributedModel* distributed_;  // the model, when it is one
  BatchSource& source_;
  torch::optim::Optimizer& optimizer_;
  SimpleTrainerOptions options_;
  std::unique_ptr<Stateful> optimizer_state_;
  StepFacts facts_;                   // its memory is used again in every step
  std::unique_ptr<StepRecord> now_;   // of the step under way
  std::unique_ptr<StepRecord> told_;  // whose losses the exchange carries: with async_write_metrics the step before
  std::unique_ptr<Snapshot> snapshot_;
  std::unique_ptr<UnitGradient> unit_gradient_;
  GradientClipper clipper_;                   // empty without `clip`
  const ClippingOptimizer* clips_by_itself_;  // null for an optimizer that does not
  bool needs_closure_;
  std::optional<at::Tensor> norm_;            // of the step under way
  std::optional<at::Tensor> norm_of_before_;  // on an accelerator, not read yet
  std::int64_t skipped_steps_ = 0;
  std::int64_t rollbacks_ = 0;
  at::Tensor first_parameter_;  // its device is the model's, wherever that is moved to
};

}  // namespace treadle

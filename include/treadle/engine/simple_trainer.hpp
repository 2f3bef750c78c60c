#pragma once

#include <treadle/base/batch.hpp>
#include <treadle/engine/trainer_base.hpp>

#include <treadle/solver/clipping.hpp>
#include <treadle/solver/optimizer_state.hpp>

#include <memory>
#include <optional>

namespace torch::optim {
class Optimizer;
}

namespace treadle {

class BatchSource;
class Model;

struct SimpleTrainerOptions {
  /// Zero the gradients before the forward pass instead of before the backward pass.
  bool zero_grad_before_forward = false;
  /// Record metrics in every n-th iteration; at least 1.
  std::int64_t gather_metric_period = 1;
  /// Clips the gradients before an optimizer that does not clip by itself; see `WithGradientClipping` for those that do.
  GradientClippingOptions clip = {};
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
/// Records "rank_data_time" and "data_time" (seconds this rank, and the slowest, waited for the batch), "total_loss", each loss,
/// and where gradients are clipped by a norm "grad_norm", the norm before; on an accelerator that of the step before, so that
/// nothing waits for it. With a closure the first losses are recorded and checked, and every gradient is clipped. Throws
/// NonFiniteError, before the optimizer runs, on every rank when a loss of any rank is NaN or infinite; Error when the source
/// ends, or when the losses are empty, not scalar, or need no gradient. The model is put into training mode by the constructor
/// and shared; source and optimizer are borrowed. A batch is moved to the device of the model's first parameter. State: that of
/// TrainerBase and "optimizer".
class SimpleTrainer : public TrainerBase {
 public:
  SimpleTrainer(std::shared_ptr<Model> model, BatchSource& source, torch::optim::Optimizer& optimizer,
                SimpleTrainerOptions options = {});
  ~SimpleTrainer() override;

  void run_step() override { run_step_for(*this); }
  /// The step as part of another trainer's loop: iteration, hooks, exchange and current storage are those of `loop`.
  void run_step_for(TrainerBase& loop);

  Model& model() noexcept { return *model_; }

  Dict state_dict() const override;
  void check_state_dict(const Dict& state) const override;
  void load_state_dict(const Dict& state) override;

 private:
  Batch next_batch(const TrainerBase& loop);
  void record(TrainerBase& loop, const StepVerdict& verdict, double own_data_time) const;
  void step_optimizer(const Batch& batch, const at::Tensor& total);
  bool clip();
  void record_norm(EventStorage& storage);

  std::shared_ptr<Model> model_;
  BatchSource& source_;
  torch::optim::Optimizer& optimizer_;
  SimpleTrainerOptions options_;
  std::unique_ptr<Stateful> optimizer_state_;
  NamedNumbers loss_values_;
  GradientClipper clipper_;                   // empty without `clip`
  const ClippingOptimizer* clips_by_itself_;  // null for an optimizer that does not
  bool needs_closure_;
  std::optional<at::Tensor> norm_;            // of the step under way
  std::optional<at::Tensor> norm_of_before_;  // on an accelerator, not read yet
  at::Tensor first_parameter_;                // its device is the model's, wherever that is moved to
};

}  // namespace treadle

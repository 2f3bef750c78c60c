#pragma once

#include <treadle/engine/simple_trainer.hpp>
#include <treadle/solver/grad_scaler.hpp>

namespace treadle {

enum class AmpPrecision { float16, bfloat16 };
/// "float16" or "bfloat16"; throws ConfigError otherwise.
AmpPrecision amp_precision_from_string(std::string_view text);

struct AmpOptions {
  AmpPrecision precision = AmpPrecision::float16;
  GradScalerOptions scaler = {};  ///< for float16; bfloat16 has the range of float32 and is not scaled
};
/// Throws ConfigError that names the field.
void validate(const AmpOptions& options);

/// SimpleTrainer with automatic mixed precision (`detectron2.engine.AMPTrainer`): the forward pass runs under LibTorch's autocast
/// for the device of the model's first parameter, CPU included; float16 losses are scaled, and a step whose gradients overflowed
/// is left out, as GradScaler says, without a norm. Clipping sees unscaled gradients that are finite. Loop thread only.
///
/// An overflow of scaled gradients is no case for `NonFiniteOptions`, whose `check_gradients` is passed over then; a loss that is
/// not finite is one. Optimizers that need a closure are refused (ConfigError). State: that of SimpleTrainer, and "grad_scaler".
class AMPTrainer final : public SimpleTrainer {
 public:
  AMPTrainer(std::shared_ptr<Model> model, BatchSource& source, torch::optim::Optimizer& optimizer,
             SimpleTrainerOptions options = {}, AmpOptions amp = {});

  GradScaler& grad_scaler() noexcept { return scaler_; }

  Dict state_dict() const override;
  void check_state_dict(const Dict& state) const override;
  void load_state_dict(const Dict& state) override;

 private:
  LossDict compute_losses(const Batch& batch) override;
  void backward(const at::Tensor& loss) override;
  bool before_gradients_are_read() override;
  bool update(const std::function<at::Tensor()>& closure) override;
  void step_left_out() override;

  AmpPrecision precision_;
  GradScaler scaler_;
  at::Tensor first_parameter_;
};

}  // namespace treadle

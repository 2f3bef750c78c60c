#include "engine/autocast_scope.hpp"

#include <treadle/base/errors.hpp>
#include <treadle/base/module_state.hpp>
#include <treadle/engine/amp_trainer.hpp>
#include <treadle/models/model.hpp>

#include <fmt/format.h>

#include <string>

namespace treadle {
namespace {

GradScalerOptions scaler_options(const AmpOptions& options) {
  validate(options);
  GradScalerOptions scaler = options.scaler;
  scaler.enabled = scaler.enabled && options.precision == AmpPrecision::float16;
  return scaler;
}

SimpleTrainerOptions trainer_options(SimpleTrainerOptions options, const AmpOptions& amp) {
  if (options.closure.value_or(false)) {
    throw ConfigError("SimpleTrainerOptions.closure: mixed precision cannot be combined with an optimizer that needs a closure",
                      "SimpleTrainerOptions.closure");
  }
  if (scaler_options(amp).enabled) options.non_finite.check_gradients = false;
  return options;
}

}  // namespace

AmpPrecision amp_precision_from_string(std::string_view text) {
  if (text == "float16") return AmpPrecision::float16;
  if (text == "bfloat16") return AmpPrecision::bfloat16;
  throw ConfigError(fmt::format("the precision of AMP must be \"float16\" or \"bfloat16\"; it is \"{}\"", text),
                    "AmpOptions.precision");
}

void validate(const AmpOptions& options) { validate(options.scaler); }

AMPTrainer::AMPTrainer(std::shared_ptr<Model> model, BatchSource& source, torch::optim::Optimizer& optimizer,
                       SimpleTrainerOptions options, AmpOptions amp)
    : SimpleTrainer(std::move(model), source, optimizer, trainer_options(std::move(options), amp)),
      precision_(amp.precision),
      scaler_(scaler_options(amp)) {
  if (needs_closure()) {
    throw ConfigError("mixed precision cannot be combined with an optimizer that needs a closure, as LBFGS does", "optimizer");
  }
  if (const auto parameters = named_parameters(this->model()); !parameters.empty()) first_parameter_ = parameters.front().tensor;
}

LossDict AMPTrainer::compute_losses(const Batch& batch) {
  scaler_.give_up();  // a step before may have thrown behind its gradients were unscaled
  const auto device = first_parameter_.defined() ? first_parameter_.device().type() : c10::kCPU;
  const AutocastScope autocast(device, precision_ == AmpPrecision::float16 ? at::kHalf : at::kBFloat16);
  return SimpleTrainer::compute_losses(batch);
}

void AMPTrainer::backward(const at::Tensor& loss) { SimpleTrainer::backward(scaler_.scale(loss)); }

bool AMPTrainer::before_gradients_are_read() { return !scaler_.enabled() || scaler_.unscale(optimizer()); }

bool AMPTrainer::update(const std::function<at::Tensor()>& closure) {
  if (!scaler_.enabled()) return SimpleTrainer::update(closure);
  const bool stepped = scaler_.step(optimizer());
  scaler_.update();
  return stepped;
}

void AMPTrainer::step_left_out() {
  if (scaler_.enabled()) scaler_.update();
}

Dict AMPTrainer::state_dict() const {
  Dict state = SimpleTrainer::state_dict();
  state.set("grad_scaler", scaler_.state_dict());
  return state;
}

void AMPTrainer::check_state_dict(const Dict& state) const {
  SimpleTrainer::check_state_dict(state);
  try {
    scaler_.check_state_dict(state.at("grad_scaler").as_dict());
  } catch (const FormatError& error) {
    throw FormatError(std::string("grad_scaler: ") + error.what());
  }
}

void AMPTrainer::load_state_dict(const Dict& state) {
  SimpleTrainer::load_state_dict(state);
  scaler_.load_state_dict(state.at("grad_scaler").as_dict());
}

}  // namespace treadle

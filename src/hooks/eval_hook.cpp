#include <treadle/base/errors.hpp>
#include <treadle/base/module_state.hpp>
#include <treadle/engine/trainer_base.hpp>
#include <treadle/evaluation/results.hpp>
#include <treadle/hooks/eval_hook.hpp>

#include <ATen/core/grad_mode.h>
#include <fmt/format.h>

namespace treadle::hooks {
namespace {

void share_buffers(const torch::nn::Module& model, Group& group) {
  if (group.get_world_size() == 1) return;
  const at::NoGradGuard no_grad;
  std::vector<NamedTensor> buffers = named_buffers(model);
  std::erase_if(buffers, [](const NamedTensor& buffer) { return !buffer.tensor.defined(); });
  Dict own;
  for (const NamedTensor& buffer : buffers) own.set(buffer.name, buffer.tensor);
  const Value shared = group.broadcast(own);
  for (const NamedTensor& buffer : buffers) buffer.tensor.detach().copy_(shared.as_dict().at(buffer.name).as_tensor());
}

}  // namespace

void validate(const EvalHookOptions& options) {
  if (options.period < 0) {
    throw ConfigError(fmt::format("EvalHookOptions.period is {}; at least 0 is needed (0: only at the end)", options.period),
                      "EvalHookOptions.period");
  }
}

EvalHook::EvalHook(std::function<Dict()> evaluate, EvalHookOptions options)
    : evaluate_(std::move(evaluate)), options_(std::move(options)) {
  if (!evaluate_) throw Error("EvalHook needs a function that evaluates");
  validate(options_);
}

void EvalHook::after_step(TrainerBase& trainer) {
  const std::int64_t done = trainer.iter() + 1;
  if (options_.period > 0 && done % options_.period == 0 && done != trainer.max_iter()) evaluate(trainer);
}

void EvalHook::after_train(TrainerBase& trainer) {
  if (options_.eval_after_train && trainer.outcome() == Outcome::completed) evaluate(trainer);
}

void EvalHook::evaluate(TrainerBase& trainer) {
  Dict results;
  {
    const std::shared_ptr<void> scope = options_.scope ? options_.scope() : nullptr;
    if (options_.model != nullptr) share_buffers(*options_.model, trainer.group());
    results = evaluate_();
  }
  std::vector<std::pair<std::string, double>> flat;
  try {
    flat = flatten_results_dict(results);
  } catch (const FormatError& error) {
    throw FormatError(fmt::format("evaluation in iteration {}: {}", trainer.iter(), error.what()));
  }
  trainer.storage().put_scalars(flat, /*smoothing_hint=*/false);
  // Evaluation may take different times on different ranks; without this the first collective of the next step waits for it.
  trainer.group().synchronize();
}

}  // namespace treadle::hooks

#include <treadle/base/errors.hpp>
#include <treadle/engine/trainer_base.hpp>
#include <treadle/evaluation/results.hpp>
#include <treadle/hooks/eval_hook.hpp>

#include <fmt/format.h>

namespace treadle::hooks {

void validate(const EvalHookOptions& options) {
  if (options.period < 0) {
    throw ConfigError(fmt::format("EvalHookOptions.period is {}; at least 0 is needed (0: only at the end)", options.period),
                      "EvalHookOptions.period");
  }
}

EvalHook::EvalHook(std::function<Dict()> evaluate, EvalHookOptions options) : evaluate_(std::move(evaluate)), options_(options) {
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
  const Dict results = evaluate_();
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

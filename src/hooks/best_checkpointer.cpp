#include "hooks/fresh_metric.hpp"

#include <treadle/base/errors.hpp>
#include <treadle/base/log.hpp>
#include <treadle/base/text.hpp>
#include <treadle/base/value_view.hpp>
#include <treadle/checkpoint/checkpointer.hpp>
#include <treadle/engine/trainer_base.hpp>
#include <treadle/hooks/best_checkpointer.hpp>

#include <fmt/format.h>

#include <cmath>

namespace treadle::hooks {
namespace {

void warn_missing(const TrainerBase& trainer, const std::string& metric) {
  std::vector<std::string> known;
  for (const auto& [name, latest] : trainer.storage().latest()) known.push_back(name);
  log_warning(fmt::format("BestCheckpointer: no \"{}\" was recorded in iteration {}, so nothing is compared{}", metric,
                          trainer.storage().iter(), did_you_mean(metric, known)));
}

}  // namespace

void validate(const BestCheckpointerOptions& options) {
  const auto require = [](bool holds, const std::string& field, const char* range) {
    if (!holds)
      throw ConfigError(fmt::format("BestCheckpointerOptions.{} must be {}", field, range), "BestCheckpointerOptions." + field);
  };
  require(options.period >= 0, "period", "at least 0 (0: only at the end)");
  require(!options.metric.empty(), "metric", "the name of a scalar");
  require(!options.file_prefix.empty(), "file_prefix", "a name");
}

BestCheckpointer::BestCheckpointer(Checkpointer& checkpointer, BestCheckpointerOptions options)
    : checkpointer_(checkpointer), options_(std::move(options)) {
  validate(options_);
}

void BestCheckpointer::after_step(TrainerBase& trainer) {
  const std::int64_t done = trainer.iter() + 1;
  if (options_.period > 0 && done % options_.period == 0 && done != trainer.max_iter()) check(trainer);
}

void BestCheckpointer::after_train(TrainerBase& trainer) {
  if (trainer.outcome() == Outcome::completed) check(trainer);
}

void BestCheckpointer::check(TrainerBase& trainer) {
  const std::optional<double> own = fresh_metric(trainer.storage(), options_.metric);
  // Results stand on the main process; a save needs every rank.
  const Value decisive = trainer.group().broadcast(own ? Value(*own) : Value());
  const bool main = trainer.group().is_main_process();
  if (decisive.is_null()) {
    if (main) warn_missing(trainer, options_.metric);
    return;
  }
  const double value = decisive.as_double();
  if (best_metric_ ? !is_better(value, *best_metric_, options_.mode) : !std::isfinite(value)) {
    if (main) {
      log_info(fmt::format("{} is {:.5f} in iteration {}: {}", options_.metric, value, trainer.storage().iter(),
                           best_metric_ ? fmt::format("the best stays {:.5f} of iteration {}", *best_metric_, best_iter_)
                                        : std::string("not a number to begin with")));
    }
    return;
  }
  // The file knows its own score, so that a run resumed from it does too.
  best_metric_ = value;
  best_iter_ = trainer.storage().iter();
  save();
  if (main) log_info(fmt::format("{} is {:.5f} in iteration {}: the best so far", options_.metric, value, best_iter_));
}

void BestCheckpointer::save() {
  if (!options_.scope) {
    checkpointer_.save_aside(options_.file_prefix, {{"iteration", best_iter_}});
    return;
  }
  const std::shared_ptr<void> scored = options_.scope();
  // Without "iteration" it is the last to be taken when a run looks for a good checkpoint to resume from.
  checkpointer_.save_aside(options_.file_prefix,
                           {{"best", Dict{{"metric", options_.metric}, {"value", *best_metric_}, {"iteration", best_iter_}}}},
                           Checkpointer::Parts::model);
}

Dict BestCheckpointer::state_dict() const {
  if (!best_metric_) return {};
  return {
      {"metric", options_.metric}, {"mode", to_string(options_.mode)}, {"best_metric", *best_metric_}, {"best_iter", best_iter_}};
}

void BestCheckpointer::check_state_dict(const Dict& state) const {
  if (state.empty()) return;
  const ValueView view(state);
  view["metric"].as_string();
  view["mode"].as_string();
  if (!std::isfinite(view["best_metric"].as_double())) view["best_metric"].fail("expected a finite number");
  if (view["best_iter"].as_int() < 0) view["best_iter"].fail("must not be negative");
}

void BestCheckpointer::load_state_dict(const Dict& state) {
  best_metric_.reset();
  best_iter_ = -1;
  if (state.empty()) return;
  const std::string& metric = state.at("metric").as_string();
  const std::string& mode = state.at("mode").as_string();
  if (metric != options_.metric || mode != to_string(options_.mode)) {
    log_warning(fmt::format("BestCheckpointer: the saved best is the {} of \"{}\", now the {} of \"{}\" counts: it starts anew",
                            mode, metric, to_string(options_.mode), options_.metric));
    return;
  }
  best_metric_ = state.at("best_metric").as_double();
  best_iter_ = state.at("best_iter").as_int();
}

}  // namespace treadle::hooks

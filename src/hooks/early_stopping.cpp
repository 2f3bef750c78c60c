#include <treadle/base/errors.hpp>
#include <treadle/base/log.hpp>
#include <treadle/base/text.hpp>
#include <treadle/base/value_view.hpp>
#include <treadle/engine/trainer_base.hpp>
#include <treadle/hooks/early_stopping.hpp>

#include <fmt/format.h>

#include <cmath>

namespace treadle::hooks {

void validate(const EarlyStoppingOptions& options) {
  const auto require = [](bool holds, const std::string& field, const char* range) {
    if (!holds)
      throw ConfigError(fmt::format("EarlyStoppingOptions.{} must be {}", field, range), "EarlyStoppingOptions." + field);
  };
  require(!options.metric.empty(), "metric", "the name of a scalar");
  require(options.patience >= 1, "patience", "at least 1");
  require(std::isfinite(options.min_delta) && options.min_delta >= 0, "min_delta", "a finite number, at least 0");
}

EarlyStopping::EarlyStopping(EarlyStoppingOptions options) : options_(std::move(options)) { validate(options_); }

void EarlyStopping::after_step(TrainerBase& trainer) {
  const HistoryBuffer* history = trainer.storage().find_history(options_.metric);
  if (history == nullptr || history->size() == 0) return;
  const auto [value, iteration] = (*history)[history->size() - 1];
  if (iteration <= judged_iter_ || iteration < trainer.iter() - 1) return;
  judged_iter_ = iteration;
  if (best_ ? is_better(value, *best_, options_.mode, options_.min_delta) : std::isfinite(value)) {
    best_ = value;
    best_iter_ = iteration;
    stalled_ = 0;
    return;
  }
  if (++stalled_ < options_.patience) return;
  const std::string best = best_ ? fmt::format("{:.5f} of iteration {}", *best_, best_iter_) : std::string("none");
  trainer.request_stop(fmt::format("{} has not improved in {} values (best: {})", options_.metric, stalled_, best));
}

void EarlyStopping::after_train(TrainerBase& trainer) {
  if (trainer.outcome() != Outcome::completed || !trainer.group().is_main_process()) return;
  if (trainer.storage().find_history(options_.metric) != nullptr) return;
  std::vector<std::string> known;
  for (const auto& [name, latest] : trainer.storage().latest()) known.push_back(name);
  log_warning(fmt::format("EarlyStopping: \"{}\" was never recorded{}", options_.metric, did_you_mean(options_.metric, known)));
}

Dict EarlyStopping::state_dict() const {
  return {{"metric", options_.metric},
          {"mode", to_string(options_.mode)},
          {"best", best_ ? Value(*best_) : Value()},
          {"best_iter", best_iter_},
          {"stalled", stalled_},
          {"judged", judged_iter_}};
}

void EarlyStopping::check_state_dict(const Dict& state) const {
  const ValueView view(state);
  view["metric"].as_string();
  view["mode"].as_string();
  if (!view["best"].is(Value::Type::null) && !std::isfinite(view["best"].as_double())) {
    view["best"].fail("expected a finite number");
  }
  view["best_iter"].as_int();
  if (view["stalled"].as_int() < 0) view["stalled"].fail("must not be negative");
  if (const auto judged = view.find("judged")) judged->as_int();
}

void EarlyStopping::load_state_dict(const Dict& state) {
  best_.reset();
  best_iter_ = judged_iter_ = -1;
  stalled_ = 0;
  const std::string& metric = state.at("metric").as_string();
  const std::string& mode = state.at("mode").as_string();
  if (metric != options_.metric || mode != to_string(options_.mode)) {
    log_warning(fmt::format("EarlyStopping: the saved state is of the {} of \"{}\", now the {} of \"{}\" counts: it starts anew",
                            mode, metric, to_string(options_.mode), options_.metric));
    return;
  }
  if (!state.at("best").is_null()) best_ = state.at("best").as_double();
  best_iter_ = state.at("best_iter").as_int();
  stalled_ = state.at("stalled").as_int();
  const Value* judged = state.find("judged");  // older states have none
  judged_iter_ = judged != nullptr ? judged->as_int() : best_iter_;
}

}  // namespace treadle::hooks

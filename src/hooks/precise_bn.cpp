#include <treadle/base/errors.hpp>
#include <treadle/base/log.hpp>
#include <treadle/base/module_state.hpp>
#include <treadle/base/value_view.hpp>
#include <treadle/data/batch_source.hpp>
#include <treadle/engine/trainer_base.hpp>
#include <treadle/hooks/bn_stats.hpp>
#include <treadle/hooks/precise_bn.hpp>
#include <treadle/models/model.hpp>

#include <fmt/format.h>

namespace treadle::hooks {

void validate(const PreciseBNOptions& options) {
  const auto require = [](std::int64_t value, const std::string& field) {
    if (value < 0) {
      throw ConfigError(fmt::format("PreciseBNOptions.{} is {}; at least 0 is needed", field, value),
                        "PreciseBNOptions." + field);
    }
  };
  require(options.period, "period");
  require(options.num_iter, "num_iter");
}

PreciseBN::PreciseBN(Model& model, std::unique_ptr<BatchSource> source, PreciseBNOptions options)
    : model_(model), source_(std::move(source)), options_(options) {
  if (!source_) throw Error("PreciseBN needs a source of batches, found a null pointer");
  validate(options_);
}

PreciseBN::~PreciseBN() = default;

void PreciseBN::before_train(TrainerBase&) {
  if (count_bn_layers(model_) == 0) log_info("PreciseBN has nothing to do: the model has no batch norm layers in training mode");
}

void PreciseBN::after_step(TrainerBase& trainer) {
  const std::int64_t done = trainer.iter() + 1;
  if (done == trainer.max_iter() || (options_.period > 0 && done % options_.period == 0)) update_stats();
}

void PreciseBN::update_stats() {
  const std::size_t layers = count_bn_layers(model_);
  if (layers == 0) return;
  log_info(fmt::format("Computing exact statistics of {} batch norm layers from {} batches", layers, options_.num_iter));
  const auto parameters = named_parameters(model_);
  EventStorage thrown_away;
  const CurrentEventStorage current(thrown_away);
  std::int64_t drawn = 0;
  update_bn_stats(
      model_,
      [&] {
        std::optional<Batch> batch = source_->next();
        if (!batch) {
          throw Error(fmt::format("PreciseBN needs {} batches, but those of \"{}\" ended after {}", options_.num_iter,
                                  source_->name(), drawn));
        }
        ++drawn;
        model_.losses(parameters.empty() ? *batch : batch->to(parameters.front().tensor.device()));
      },
      options_.num_iter);
}

Dict PreciseBN::state_dict() const { return {{"loader", source_->state_dict()}}; }

void PreciseBN::check_state_dict(const Dict& state) const { source_->check_state_dict(ValueView(state)["loader"].as_dict()); }

void PreciseBN::load_state_dict(const Dict& state) { source_->load_state_dict(state.at("loader").as_dict()); }

}  // namespace treadle::hooks

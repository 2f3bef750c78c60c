#include <treadle/base/errors.hpp>
#include <treadle/base/log.hpp>
#include <treadle/base/value_view.hpp>
#include <treadle/config/auto_scale.hpp>
#include <treadle/data/batch_source.hpp>
#include <treadle/defaults/default_trainer.hpp>
#include <treadle/defaults/options.hpp>
#include <treadle/engine/distributed_model.hpp>
#include <treadle/evaluation/evaluator.hpp>
#include <treadle/models/model.hpp>
#include <treadle/models/sync_batch_norm.hpp>

#include <fmt/format.h>
#include <torch/optim/optimizer.h>

namespace treadle {

DefaultTrainer::DefaultTrainer(const Config& config, std::shared_ptr<Group> group, Builders builders)
    : TrainerBase({.group = std::move(group), .events = {}}), config_(config), builders_(std::move(builders)) {
  refuse_unsupported(config_);
  const std::shared_ptr<Group> shared = shared_group();
  config_ = auto_scale_workers(config_, shared->get_world_size()).clone();  // a clone may still be changed
  expected_ = expected_results(config_);
  const DistributedOptions distributed = distributed_options(config_);
  if (!expected_.empty() && config_.get_strings("DATASETS.TEST").empty()) {
    config_.fail("TEST.EXPECTED_RESULTS", "nothing is evaluated, since DATASETS.TEST is empty");
  }
  // Data comes first: a missing file is said before a large model is built.
  train_source_ = builders_.train_loader(config_, shared);
  apply_max_epochs(config_, *train_source_);
  config_.freeze();
  tester_ = std::make_unique<Tester>(config_, shared, builders_);
  model_ = builders_.model(config_);
  set_sync_batch_norm_group(*model_, shared);
  model_->to(device_option(config_, shared->get_local_rank()));
  optimizer_ = builders_.optimizer(config_, *model_);
  lr_scheduler_ = builders_.lr_scheduler(config_, *optimizer_);
  model_ = create_ddp_model(model_, shared, distributed);

  SimpleTrainerOptions options = simple_trainer_options(config_);
  options.trainer.group = shared;
  if (const auto amp = amp_options(config_)) {
    inner_ = std::make_unique<AMPTrainer>(model_, *train_source_, *optimizer_, std::move(options), *amp);
  } else {
    inner_ = std::make_unique<SimpleTrainer>(model_, *train_source_, *optimizer_, std::move(options));
  }
  record_ = std::make_unique<RunRecord>(*this, train_source_.get(), *model_, model_->non_persistent());
  checkpointer_ =
      std::make_unique<DetectionCheckpointer>(*model_, config_.get_string("OUTPUT_DIR"), checkpointer_options(*model_, shared));
  checkpointer_->add_checkpointable("trainer", *this);
  checkpointer_->add_checkpointable("treadle", *record_);
  register_hooks(builders_.hooks(*this));
}

DefaultTrainer::~DefaultTrainer() { clear_hooks(); }

std::vector<hooks::PeriodicWriter::NamedWriter> DefaultTrainer::build_writers() {
  if (!group().is_main_process()) return {};
  return builders_.writers(*this);
}

std::unique_ptr<BatchSource> DefaultTrainer::build_train_source() {
  Config config = config_.clone();
  config.set("DATALOADER.NUM_WORKERS", 0);
  return builders_.train_loader(config, shared_group());
}

void DefaultTrainer::resume_or_load(bool resume) {
  checkpointer_->resume_or_load(config_.get_string("MODEL.WEIGHTS"), resume);
  if (start_iter() > 0 && !record_->loaded()) {
    log_warning(
        fmt::format("the checkpoint was not written by Treadle: training goes on at iteration {}, but the order of the data and "
                    "random numbers start anew",
                    start_iter()));
  }
  const std::int64_t saved = record_->saved_max_iter(), current = config_.get_int("SOLVER.MAX_ITER");
  if (saved > 0 && saved != current) {
    log_warning(fmt::format("SOLVER.MAX_ITER differs from the one of the run that is resumed: using {} instead of the saved {}",
                            current, saved));
  }
}

void DefaultTrainer::before_step() {
  inner_->keep_state_for(*this);
  TrainerBase::before_step();
}

void DefaultTrainer::after_train() {
  inner_->finish_for(*this);
  inner_->after_train();
  TrainerBase::after_train();
}

void DefaultTrainer::require_within_run(std::int64_t completed) const {
  if (completed < config_.get_int("SOLVER.MAX_ITER")) return;
  // Unsigned, since a damaged state can hold the largest number there is.
  const std::uint64_t next = static_cast<std::uint64_t>(completed) + 1;
  config_.fail("SOLVER.MAX_ITER", "the run to be resumed has come further: it would go on at iteration " + std::to_string(next));
}

Dict DefaultTrainer::train() {
  require_within_run(start_iter() - 1);
  train(start_iter(), config_.get_int("SOLVER.MAX_ITER"));
  if (outcome() == Outcome::completed && group().is_main_process()) verify_results(expected_, last_results_);
  return last_results_;
}

Dict DefaultTrainer::test() {
  last_results_ = tester_->test(*model_);
  return last_results_;
}

Dict DefaultTrainer::state_dict() const {
  Dict state = TrainerBase::state_dict();
  Dict inner = inner_->state_dict();
  inner.set("iteration", state.at("iteration"));
  state.set("_trainer", std::move(inner));
  return state;
}

void DefaultTrainer::check_state_dict(const Dict& state) const {
  try {
    TrainerBase::check_state_dict(state);
    inner_->check_state_dict(ValueView(state)["_trainer"].as_dict());
  } catch (const FormatError&) {
    // A schedule that has no rates behind the end of its run can only say that.
    require_within_run(ValueView(state)["iteration"].as_int());
    throw;
  }
}

void DefaultTrainer::load_state_dict(const Dict& state) {
  TrainerBase::load_state_dict(state);
  inner_->load_state_dict(state.at("_trainer").as_dict());
}

}  // namespace treadle

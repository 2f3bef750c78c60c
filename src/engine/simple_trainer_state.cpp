// The trainer's state in a checkpoint.
#include "engine/step_record.hpp"

#include <treadle/base/errors.hpp>
#include <treadle/base/value_view.hpp>
#include <treadle/engine/simple_trainer.hpp>

#include <string>
#include <utility>

namespace treadle {

namespace {

std::int64_t count_in(const Dict& state, const char* key) {
  const Value* count = state.find(key);
  return count ? count->as_int() : 0;
}

void check_pending(const ValueView& pending) {
  if (pending["iteration"].as_int() < 0) pending["iteration"].fail("must not be negative");
  pending["data_time"].as_double();
  const ValueView losses = pending["losses"];
  for (const auto& loss : losses.as_dict()) {
    if (!loss.key.is_string()) losses[loss.key].fail("the name of a loss must be text");
    losses[loss.key].as_double();
  }
}

}  // namespace

Dict SimpleTrainer::state_dict() const {
  Dict state = TrainerBase::state_dict();
  state.set("optimizer", optimizer_state_->state_dict());
  if (skipped_steps_ > 0) state.set("skipped_steps", skipped_steps_);
  if (rollbacks_ > 0) state.set("rollbacks", rollbacks_);
  for (const auto& own : SimpleTrainer::rank_state_dict()) state.set(own.key, own.value);
  return state;
}

Dict SimpleTrainer::rank_state_dict() const {
  if (told_->iteration < 0) return {};
  NamedNumbers numbers;
  told_->losses.read(numbers);
  Dict losses;
  for (const auto& [name, value] : numbers) losses.set(name, value);
  return {
      {"pending_metrics", Dict{{"iteration", told_->iteration}, {"data_time", told_->data_time}, {"losses", std::move(losses)}}}};
}

void SimpleTrainer::check_state_dict(const Dict& state) const {
  TrainerBase::check_state_dict(state);
  const ValueView view(state);
  for (const char* key : {"skipped_steps", "rollbacks"}) {
    if (const auto count = view.find(key); count && count->as_int() < 0) count->fail("must not be negative");
  }
  SimpleTrainer::check_rank_state_dict(state);
  try {
    optimizer_state_->check_state_dict(state.at("optimizer").as_dict());
  } catch (const FormatError& error) {
    throw FormatError(std::string("optimizer: ") + error.what());
  }
}

void SimpleTrainer::check_rank_state_dict(const Dict& state) const {
  if (const auto pending = ValueView(state).find("pending_metrics")) check_pending(*pending);
}

void SimpleTrainer::load_state_dict(const Dict& state) {
  TrainerBase::load_state_dict(state);
  optimizer_state_->load_state_dict(state.at("optimizer").as_dict());
  skipped_steps_ = count_in(state, "skipped_steps");
  rollbacks_ = count_in(state, "rollbacks");
  SimpleTrainer::load_rank_state_dict(state);
}

void SimpleTrainer::load_rank_state_dict(const Dict& state) {
  told_->iteration = -1;
  const Value* found = state.find("pending_metrics");
  if (found == nullptr) return;
  const Dict& pending = found->as_dict();
  NamedNumbers numbers;
  for (const auto& [name, value] : pending.at("losses").as_dict()) numbers.emplace_back(name.string(), value.as_double());
  told_->losses.set(numbers);
  told_->ids.clear();
  told_->data_time = pending.at("data_time").as_double();
  told_->iteration = pending.at("iteration").as_int();
}

}  // namespace treadle

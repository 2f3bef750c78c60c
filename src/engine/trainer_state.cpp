// Registration of hooks, and the trainer's state in a checkpoint.
#include <treadle/base/errors.hpp>
#include <treadle/base/log.hpp>
#include <treadle/base/value_view.hpp>
#include <treadle/engine/trainer_base.hpp>

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <limits>
#include <string_view>

namespace treadle {
namespace {

// Where a checkpoint has the states of hooks.
constexpr const char* kHooks = "hooks";
constexpr const char* kApart = "treadle_hooks";

/// Detectron2 hands what it finds in "hooks" to its hook of that name, and these of its hooks take none: it would not resume.
bool is_stateless_in_detectron2(std::string_view key) {
  const std::string_view name = key.substr(0, key.find('#'));
  constexpr std::array<std::string_view, 10> names{"AutogradProfiler", "BestCheckpointer",     "CallbackHook",   "EvalHook",
                                                   "IterationTimer",   "PeriodicCheckpointer", "PeriodicWriter", "PreciseBN",
                                                   "TorchMemoryStats", "TorchProfiler"};
  return std::find(names.begin(), names.end(), name) != names.end();
}

}  // namespace

void TrainerBase::check_order(const HookBase& hook) const {
  for (const Registered& earlier : hooks_) {
    if (!must_precede(hook.phase(), earlier.hook->phase())) continue;
    throw Error(
        fmt::format("the hook {} ({}) must be registered before {} ({}); order: timing, schedule and statistics; checkpoint and "
                    "evaluation; best checkpoint; reporting",
                    hook.key(), to_string(hook.phase()), earlier.key, to_string(earlier.hook->phase())));
  }
}

std::string TrainerBase::unique_key(const HookBase& hook) const {
  const std::string wanted = hook.key();
  const auto taken = [&](const std::string& key) {
    return std::any_of(hooks_.begin(), hooks_.end(), [&](const Registered& each) { return each.key == key; });
  };
  std::string key = wanted;
  for (int n = 2; taken(key); ++n) key = fmt::format("{}#{}", wanted, n);
  return key;
}

void TrainerBase::register_hook(std::unique_ptr<HookBase> hook) {
  if (!hook) return;
  if (calling_hooks_)
    throw Error(fmt::format("the hook {} is registered from inside a hook; register it before or after a run", hook->key()));
  check_order(*hook);
  const std::string key = unique_key(*hook);
  if (const Value* state = waiting_state_.find(key)) {
    hook->check_state_dict(state->as_dict());
    hook->load_state_dict(state->as_dict());
  }
  hooks_.push_back({std::move(hook), key});
  try {
    hooks_.back().hook->registered(*this);
  } catch (...) {
    hooks_.pop_back();
    throw;
  }
  waiting_state_.erase(key);
}

void TrainerBase::register_hooks(std::vector<std::unique_ptr<HookBase>> hooks) {
  for (auto& hook : hooks) register_hook(std::move(hook));
}

std::vector<std::string> TrainerBase::hook_keys() const {
  std::vector<std::string> keys;
  for (const Registered& registered : hooks_) keys.push_back(registered.key);
  return keys;
}

Position TrainerBase::position() const {
  if (in_step_) {
    throw Error(fmt::format(
        "iteration {} is not complete: a state to resume from can be taken between steps, in after_step or after_train "
        "for instance",
        iter_));
  }
  Position position;
  position.iteration = completed_;
  const std::size_t last = in_after_step_ ? *in_after_step_ + 1 : hooks_.size();
  position.after_step_index = static_cast<std::int64_t>(last) - 1;
  for (std::size_t i = last; i < hooks_.size(); ++i) position.hooks_behind.push_back(hooks_[i].key);
  return position;
}

void TrainerBase::resume_at(Position position, std::function<void()> restore) {
  resume_ = Resume{std::move(position), std::move(restore)};
}

void TrainerBase::return_to(const Dict& state) {
  const std::int64_t start = start_iter_;
  load_state_dict(state);
  for (const Registered& registered : hooks_) {
    const Value* place = state.find(is_stateless_in_detectron2(registered.key) ? kApart : kHooks);
    const bool was_empty = place == nullptr || !place->as_dict().contains(registered.key);
    if (!was_empty || registered.hook->state_dict().empty()) continue;
    try {
      registered.hook->check_state_dict({});
      registered.hook->load_state_dict({});
    } catch (const std::exception& error) {
      log_warning(fmt::format("the hook {} keeps its state, though it had none where the run goes back to: {}", registered.key,
                              error.what()));
    }
  }
  start_iter_ = start;
  returned_ = true;
}

Dict TrainerBase::state_dict() const {
  Dict state{{"iteration", completed_}};
  Dict hooks, apart;
  const auto place_of = [&](const std::string& key) -> Dict& { return is_stateless_in_detectron2(key) ? apart : hooks; };
  for (const Registered& registered : hooks_) {
    Dict own = registered.hook->state_dict();
    if (!own.empty()) place_of(registered.key).set(registered.key, std::move(own));
  }
  for (const auto& waiting : waiting_state_) place_of(waiting.key.string()).set(waiting.key, waiting.value);
  if (!hooks.empty()) state.set(kHooks, std::move(hooks));
  if (!apart.empty()) state.set(kApart, std::move(apart));
  return state;
}

void TrainerBase::check_state_dict(const Dict& state) const {
  const ValueView view(state);
  const std::int64_t iteration = view["iteration"].as_int();
  if (iteration < -1 || iteration == std::numeric_limits<std::int64_t>::max())
    view["iteration"].fail("expected a number from -1 on");
  for (const char* place : {kHooks, kApart}) {
    const auto hooks = view.find(place);
    if (!hooks) continue;
    for (const auto& entry : hooks->as_dict()) (*hooks)[entry.key.string()].as_dict();
    for (const Registered& registered : hooks_) {
      const auto own = hooks->find(registered.key);
      if (!own) continue;
      try {
        registered.hook->check_state_dict(own->as_dict());
      } catch (const FormatError& error) {
        throw FormatError(fmt::format("{}.{}: {}", place, registered.key, error.what()));
      }
    }
  }
}

void TrainerBase::load_state_dict(const Dict& state) {
  const ValueView view(state);
  completed_ = view["iteration"].as_int();
  iter_ = completed_;
  start_iter_ = completed_ + 1;
  resume_.reset();
  in_step_ = false;
  waiting_state_.clear();
  for (const char* place : {kHooks, kApart}) {
    if (const Value* hooks = state.find(place)) load_hooks(hooks->as_dict());
  }
}

void TrainerBase::load_hooks(const Dict& states) {
  for (const auto& entry : states) {
    const std::string key = entry.key.string();
    const auto found = std::find_if(hooks_.begin(), hooks_.end(), [&](const Registered& each) { return each.key == key; });
    if (found != hooks_.end()) {
      found->hook->load_state_dict(entry.value.as_dict());
      continue;
    }
    log_warning(fmt::format("Cannot find the hook '{}': its state is kept for a hook registered later", key));
    waiting_state_.set(entry.key, deep_clone(entry.value));
  }
}

}  // namespace treadle

#include <treadle/base/errors.hpp>
#include <treadle/base/log.hpp>
#include <treadle/base/module_state.hpp>
#include <treadle/base/rng.hpp>
#include <treadle/base/value_view.hpp>
#include <treadle/engine/run_record.hpp>

#include <fmt/format.h>

#include <algorithm>
#include <chrono>

#include "base/tensor_copy.hpp"

namespace treadle {
namespace {

constexpr std::int64_t kVersion = 1;

std::int64_t nanoseconds_since_1970() {
  return std::chrono::duration_cast<std::chrono::nanoseconds>(std::chrono::system_clock::now().time_since_epoch()).count();
}

Dict buffers_of(const torch::nn::Module& model, const std::vector<std::string>& skip) {
  Dict buffers;
  for (const NamedTensor& buffer : named_buffers(model)) {
    if (std::find(skip.begin(), skip.end(), buffer.name) == skip.end()) buffers.set(buffer.name, buffer.tensor);
  }
  return buffers;
}

Dict to_dict(const Position& position) {
  List behind;
  for (const std::string& key : position.hooks_behind) behind.push_back(key);
  return {{"iteration", position.iteration}, {"after_step_index", position.after_step_index}, {"hooks_behind", behind}};
}

Position read_position(const ValueView& view) {
  Position position{view["iteration"].as_int(), view["after_step_index"].as_int(), {}};
  const ValueView behind = view["hooks_behind"];
  for (std::size_t i = 0; i < behind.size(); ++i) position.hooks_behind.push_back(behind.item(i).as_string());
  return position;
}

void check_buffers(const Dict& own, const ValueView& saved) {
  for (const auto& buffer : own) {
    const at::Tensor& tensor = saved[buffer.key].as_tensor();
    if (tensor.sizes() != buffer.value.as_tensor().sizes()) {
      saved[buffer.key].fail(fmt::format("expected a tensor like {}, found {}", describe(buffer.value), describe(Value(tensor))));
    }
    const std::string obstacle = obstacle_to_copy(buffer.value.as_tensor(), tensor);
    if (!obstacle.empty()) saved[buffer.key].fail(obstacle);
  }
}

}  // namespace

RunRecord::RunRecord(TrainerBase& trainer, Stateful* source, torch::nn::Module& model, std::vector<std::string> skip)
    : trainer_(trainer), source_(source), model_(model), skip_(std::move(skip)), begun_(nanoseconds_since_1970()) {}

Dict RunRecord::own_entry() const {
  Dict entry{{"rng", default_generator_state()},
             {"loader", source_ ? source_->state_dict() : Dict()},
             {"buffers", buffers_of(model_, skip_)}};
  if (Dict own = trainer_.rank_state_dict(); !own.empty()) entry.set("trainer", std::move(own));
  return entry;
}

Dict RunRecord::state_dict() const {
  return {{"version", kVersion},
          {"begun", begun_},
          {"events", trainer_.storage().state_dict()},
          {"position", to_dict(trainer_.position())},
          {"max_iter", trainer_.max_iter()},
          // Of a process alone as it is: its buffers share the storages of the model's, and the file holds them once.
          {"ranks", trainer_.group().get_world_size() == 1 ? List{own_entry()} : trainer_.group().all_gather(own_entry())}};
}

const Dict& RunRecord::entry_of_this_rank(const Dict& state, bool& own) const {
  const List& ranks = state.at("ranks").as_list();
  const auto rank = static_cast<std::size_t>(trainer_.group().get_rank());
  own = rank < ranks.size();
  return ranks[own ? rank : 0].as_dict();
}

void RunRecord::check_state_dict(const Dict& state) const {
  const ValueView view(state);
  const std::int64_t version = view["version"].as_int();
  if (version != kVersion) {
    view["version"].fail(
        fmt::format("expected version {} of the record, found {}: another version of Treadle wrote it; resume with that "
                    "one, or begin a new run from the weights alone",
                    kVersion, version));
  }
  read_position(view["position"]);
  if (state.contains("max_iter") && view["max_iter"].as_int() < 0) view["max_iter"].fail("must not be negative");
  if (state.contains("begun")) view["begun"].as_int();
  trainer_.storage().check_state_dict(view["events"].as_dict());
  if (view["ranks"].size() == 0) view["ranks"].fail("expected an entry for every rank, found none");
  bool own = false;
  const Dict& entry = entry_of_this_rank(state, own);
  const ValueView entry_view(entry, "ranks");
  if (source_) source_->check_state_dict(entry_view["loader"].as_dict());
  if (!own) return;
  check_default_generator_state(entry_view["rng"].as_dict());
  check_buffers(buffers_of(model_, skip_), entry_view["buffers"]);
  if (const auto trainer = entry_view.find("trainer")) trainer_.check_rank_state_dict(trainer->as_dict());
}

void RunRecord::load_state_dict(const Dict& state) {
  trainer_.storage().load_state_dict(state.at("events").as_dict());
  bool own = false;
  const Dict& entry = entry_of_this_rank(state, own);
  if (source_) source_->load_state_dict(entry.at("loader").as_dict());
  std::function<void()> restore;
  if (own) {
    const Dict& buffers = entry.at("buffers").as_dict();
    for (auto& buffer : buffers_of(model_, skip_)) buffer.value.as_tensor().detach().copy_(buffers.at(buffer.key).as_tensor());
    if (const Value* trainer = entry.find("trainer")) trainer_.load_rank_state_dict(trainer->as_dict());
    restore = [rng = deep_clone(entry.at("rng").as_dict())] { set_default_generator_state(rng); };
  } else {
    log_warning(
        fmt::format("the checkpoint has no entry for rank {}: its random numbers start anew", trainer_.group().get_rank()));
  }
  trainer_.resume_at(read_position(ValueView(state)["position"]), std::move(restore));
  if (const Value* max_iter = state.find("max_iter")) saved_max_iter_ = max_iter->as_int();
  if (const Value* begun = state.find("begun")) begun_ = begun->as_int();
  loaded_ = true;
}

}  // namespace treadle

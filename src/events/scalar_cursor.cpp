#include <treadle/base/value_view.hpp>

#include <algorithm>
#include <map>

#include "events/event_storage_slot.hpp"
#include "events/scalar_cursor.hpp"

namespace treadle {
namespace {

/// The lines of one iteration, the last one first.
using Lines = std::vector<ScalarLine>;

void add(std::map<std::int64_t, Lines>& lines, std::int64_t iteration, std::string_view name, double value) {
  Lines& same = lines[iteration];
  const auto has_name = [&](const ScalarLine& line) {
    return std::any_of(line.scalars.begin(), line.scalars.end(), [&](const auto& scalar) { return scalar.first == name; });
  };
  auto line = std::find_if_not(same.begin(), same.end(), has_name);
  if (line == same.end()) line = same.insert(same.end(), ScalarLine{iteration, {}});
  line->scalars.emplace_back(name, value);
}

/// In the order of the names, so that equal runs have equal checkpoints.
Dict to_dict(const std::unordered_map<std::string, std::int64_t>& numbers) {
  Dict dict;
  for (const auto& [name, number] : std::map<std::string, std::int64_t>(numbers.begin(), numbers.end())) dict.set(name, number);
  return dict;
}

std::unordered_map<std::string, std::int64_t> from_dict(const Dict& dict) {
  std::unordered_map<std::string, std::int64_t> numbers;
  for (const Dict::Entry& entry : dict) numbers[entry.key.string()] = entry.value.as_int();
  return numbers;
}

std::int64_t newest_iteration(const HistoryBuffer& history) { return history[history.size() - 1].iteration; }

}  // namespace

std::int64_t ScalarCursor::last_write(const std::string& name) const {
  const auto found = last_write_.find(name);
  return found == last_write_.end() ? -1 : found->second;
}

std::int64_t ScalarCursor::written(const std::string& name, const HistoryBuffer& history) const {
  const auto found = written_.find(name);
  // A count beyond the history's belongs to another history: the storage began anew.
  return found == written_.end() || found->second > history.count() ? 0 : found->second;
}

std::vector<ScalarLine> ScalarCursor::pending(const EventStorage& storage) const {
  std::map<std::int64_t, Lines> lines;
  for (const std::uint32_t i : storage.order_) {
    const auto& [name, smoothing_hint, history, next] = *storage.slots_[i];
    if (smoothing_hint) {
      const std::int64_t newest = newest_iteration(history);
      if (newest > last_write(name)) add(lines, newest, name, history.median(history.count_within(window_)));
      continue;
    }
    const bool one = std::find(latest_only_.begin(), latest_only_.end(), name) != latest_only_.end();
    const std::int64_t fresh = std::min({history.count() - written(name, history), history.size(), one ? 1 : history.size()});
    for (std::int64_t k = 0; k < fresh; ++k) {
      const HistoryBuffer::Sample& sample = history[history.size() - 1 - k];
      add(lines, sample.iteration, name, sample.value);
    }
  }
  std::vector<ScalarLine> result;
  for (auto& [iteration, same] : lines) std::move(same.rbegin(), same.rend(), std::back_inserter(result));
  return result;
}

void ScalarCursor::advance(const EventStorage& storage) {
  for (const std::uint32_t i : storage.order_) {
    const auto& [name, smoothing_hint, history, next] = *storage.slots_[i];
    if (smoothing_hint) {
      std::int64_t& last = last_write_.try_emplace(name, -1).first->second;
      last = std::max(last, newest_iteration(history));
    } else {
      written_[name] = history.count();
    }
  }
}

Dict ScalarCursor::state_dict() const { return {{"last_write", to_dict(last_write_)}, {"written", to_dict(written_)}}; }

void ScalarCursor::check_state_dict(const Dict& state) const {
  const ValueView view(state);
  for (const char* part : {"last_write", "written"}) {
    for (const Dict::Entry& entry : view[part].as_dict()) {
      entry.key.string();
      view[part][entry.key].as_int();
    }
  }
}

void ScalarCursor::load_state_dict(const Dict& state) {
  last_write_ = from_dict(state.at("last_write").as_dict());
  written_ = from_dict(state.at("written").as_dict());
}

}  // namespace treadle

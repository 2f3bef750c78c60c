#include "checkpoint/key_report.hpp"

#include <ATen/core/Tensor.h>
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <set>
#include <tuple>
#include <unordered_map>

namespace treadle {

namespace {

using KeyGroup = std::pair<std::string, std::vector<std::string>>;

std::string group_text(KeyGroup group) {
  auto& [head, tails] = group;
  if (tails.empty()) return head;
  if (tails.size() == 1) return head + "." + tails[0];
  std::sort(tails.begin(), tails.end());
  return fmt::format("{}.{{{}}}", head, fmt::join(tails, ", "));
}

/// What makes two tensors the same entry under two names; each name may have a tensor object of its own.
using Place = std::tuple<const void*, std::int64_t, std::vector<std::int64_t>>;

Place place_of(const at::Tensor& tensor) {
  return {tensor.storage().unsafeGetStorageImpl(), tensor.storage_offset(), tensor.sizes().vec()};
}

}  // namespace

std::vector<KeyGroup> group_keys(const std::vector<std::string>& keys) {
  std::vector<KeyGroup> groups;
  std::unordered_map<std::string, std::size_t> positions;
  for (const std::string& key : keys) {
    std::size_t dot = key.rfind('.');
    std::string head = dot == std::string::npos ? key : key.substr(0, dot);
    auto [position, added] = positions.try_emplace(head, groups.size());
    if (added) groups.push_back({head, {}});
    if (dot != std::string::npos) groups[position->second].second.push_back(key.substr(dot + 1));
  }
  return groups;
}

std::vector<std::string> describe_groups(const std::vector<std::string>& keys) {
  std::vector<std::string> words;
  for (KeyGroup& group : group_keys(keys)) words.push_back(group_text(std::move(group)));
  return words;
}

std::string missing_keys_message(const std::vector<std::string>& keys) {
  auto words = describe_groups(keys);
  std::sort(words.begin(), words.end());
  return fmt::format("Some model parameters or buffers are not found in the checkpoint:\n{}", fmt::join(words, "\n"));
}

std::string unexpected_keys_message(const std::vector<std::string>& keys) {
  return fmt::format("The checkpoint state_dict contains keys that are not used by the model:\n  {}",
                     fmt::join(describe_groups(keys), "\n  "));
}

std::string other_model_note(const IncompatibleKeys& incompatible) {
  std::vector<std::string> notes;
  const auto note = [&](const std::string& what, const std::vector<std::string>& keys) {
    constexpr std::size_t kMost = 3;
    if (keys.empty()) return;
    const std::vector<std::string> first(keys.begin(), keys.begin() + static_cast<std::ptrdiff_t>(std::min(keys.size(), kMost)));
    const std::string rest = keys.size() > kMost ? fmt::format(" and {} more", keys.size() - kMost) : "";
    notes.push_back(fmt::format("{} {}{}", what, fmt::join(first, ", "), rest));
  };
  std::vector<std::string> shapes;
  for (const IncorrectShape& mismatch : incompatible.incorrect_shapes) shapes.push_back(mismatch.key);
  std::vector<std::string> missing = incompatible.missing_keys;
  std::erase_if(missing, [&](const std::string& key) { return std::find(shapes.begin(), shapes.end(), key) != shapes.end(); });
  note("it lacks", missing);
  note("it alone has", incompatible.unexpected_keys);
  note("other shapes have", shapes);
  return notes.empty() ? "" : fmt::format(" (the checkpoint is of another model: {})", fmt::join(notes, "; "));
}

std::string incorrect_shape_message(const IncorrectShape& mismatch) {
  return fmt::format(
      "Skip loading parameter '{}' to the model due to incompatible shapes: {} in the checkpoint but {} in the model! You might "
      "want to "
      "double check if this is expected.",
      mismatch.key, tuple_text(mismatch.in_checkpoint), tuple_text(mismatch.in_model));
}

std::string tuple_text(const std::vector<std::int64_t>& numbers) {
  return numbers.size() == 1 ? fmt::format("({},)", numbers[0]) : fmt::format("({})", fmt::join(numbers, ", "));
}

std::vector<std::string> drop_reused_keys(const std::vector<std::string>& missing, const Dict& entries) {
  std::set<std::string> gone(missing.begin(), missing.end());
  std::set<Place> loaded;
  for (const auto& entry : entries) {
    if (!gone.contains(entry.key.string())) loaded.insert(place_of(entry.value.as_tensor()));
  }
  std::vector<std::string> left;
  for (const std::string& key : missing) {
    const Value* value = entries.find(key);
    if (!value || !loaded.contains(place_of(value->as_tensor()))) left.push_back(key);
  }
  return left;
}

void strip_prefix(Dict& state, const std::string& prefix) {
  std::vector<std::pair<std::string, Value*>> sorted;
  for (auto& entry : state) {
    if (!entry.key.is_string()) return;
    if (!entry.key.string().empty() && !entry.key.string().starts_with(prefix)) return;
    sorted.emplace_back(entry.key.string(), &entry.value);
  }
  std::sort(sorted.begin(), sorted.end(), [](const auto& a, const auto& b) { return a.first < b.first; });
  Dict stripped;
  stripped.reserve(sorted.size());
  for (auto& [key, value] : sorted) stripped.set(key.empty() ? key : key.substr(prefix.size()), std::move(*value));
  state = std::move(stripped);
}

}  // namespace treadle

#include "checkpoint/name_matching.hpp"

#include "checkpoint/key_report.hpp"
#include "checkpoint/name_parts.hpp"

#include <treadle/base/errors.hpp>
#include <treadle/base/log.hpp>

#include <ATen/core/Tensor.h>
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <map>
#include <set>

namespace treadle {

namespace {

std::vector<std::string> sorted_keys(const Dict& dict) {
  std::vector<std::string> keys;
  for (const auto& entry : dict) keys.push_back(entry.key.string());
  std::sort(keys.begin(), keys.end());
  return keys;
}

/// The longest of `keys` that is `name` or what follows a dot in it; empty when there is none.
std::string longest_suffix(const std::string& name, const Dict& keys) {
  if (keys.contains(name)) return name;
  for (std::size_t dot = name.find('.'); dot != std::string::npos; dot = name.find('.', dot + 1)) {
    std::string suffix = name.substr(dot + 1);
    if (!suffix.empty() && keys.contains(suffix)) return suffix;
  }
  return {};
}

// The components that the first and last name have in common at equal places: as in Detectron2, not only those before the first
// difference.
std::string common_components(const std::vector<std::string>& names) {
  std::vector<std::vector<std::string>> parts;
  for (const std::string& name : names) parts.push_back(name_parts(name));
  auto [least, greatest] = std::minmax_element(parts.begin(), parts.end());
  std::vector<std::string> common;
  for (std::size_t i = 0; i < std::min(least->size(), greatest->size()); ++i) {
    if ((*least)[i] == (*greatest)[i]) common.push_back((*least)[i]);
  }
  return fmt::format("{}", fmt::join(common, "."));
}

bool share_first_character(const std::vector<std::string>& names) {
  return std::all_of(names.begin(), names.end(),
                     [&](const std::string& name) { return !name.empty() && name[0] == names[0][0]; });
}

/// How many lines a table of the matches would have: parameters of one module whose old names begin alike share one.
std::size_t count_groups(const std::vector<std::string>& model_keys, const std::map<std::string, std::string>& old_names) {
  std::vector<std::string> modules;
  for (const std::string& key : model_keys) {
    std::size_t dot = key.rfind('.');
    if (dot != std::string::npos) modules.push_back(key.substr(0, dot + 1));
  }
  std::stable_sort(modules.begin(), modules.end(), [](const auto& a, const auto& b) { return a.size() < b.size(); });
  modules.erase(std::unique(modules.begin(), modules.end()), modules.end());
  std::map<std::string, std::vector<std::string>> group_of;
  for (const std::string& module : modules) {
    std::vector<std::string> group, old;
    for (const std::string& key : model_keys) {
      if (!key.starts_with(module)) continue;
      group.push_back(key);
      old.push_back(old_names.at(key));
    }
    if (group.size() <= 1 || !share_first_character(old)) continue;
    for (const std::string& key : group) group_of.try_emplace(key, group);
  }
  std::set<std::string> seen;
  std::size_t lines = 0;
  for (const std::string& key : model_keys) {
    if (seen.contains(key)) continue;
    ++lines;
    if (group_of.contains(key)) seen.insert(group_of[key].begin(), group_of[key].end());
  }
  return lines;
}

std::string size_text(const at::Tensor& tensor) { return fmt::format("torch.Size([{}])", fmt::join(tensor.sizes(), ", ")); }

}  // namespace

Dict align_state_dicts(const Dict& model, const Dict& checkpoint, bool caffe2) {
  RenamedState renamed;
  if (caffe2) {
    renamed = convert_caffe2_state(checkpoint);
  } else {
    for (const auto& entry : checkpoint) renamed.old_names.set(entry.key, entry.key.string());
    renamed.state = checkpoint;
  }
  if (renamed.state.empty()) throw FormatError("the checkpoint holds no weights to match with the model");
  Dict result;
  std::map<std::string, std::string> matched;    // key of the checkpoint → key of the model
  std::map<std::string, std::string> old_names;  // key of the model → name in the file
  for (const std::string& name : sorted_keys(model)) {
    std::string found = longest_suffix(name, renamed.state);
    if (found.empty()) continue;
    const at::Tensor& value = renamed.state.at(found).as_tensor();
    const at::Tensor& target = model.at(name).as_tensor();
    if (value.sizes() != target.sizes()) {
      log_warning(fmt::format("Shape of {} in checkpoint is {}, while shape of {} in model is {}.", found, size_text(value), name,
                              size_text(target)));
      log_warning(fmt::format("{} will not be loaded. Please double check and see if this is desired.", found));
      continue;
    }
    auto [known, added] = matched.try_emplace(found, name);
    if (!added) {
      log_error(fmt::format("Ambiguity found for {} in checkpoint!It matches at least two keys in the model ({} and {}).", found,
                            name, known->second));
      throw FormatError(
          fmt::format("\"{}\" of the checkpoint matches both \"{}\" and \"{}\" of the model", found, known->second, name));
    }
    result.set(name, value);
    old_names[name] = renamed.old_names.at(found).as_string();
  }
  if (matched.empty()) {
    log_warning("No weights in checkpoint matched with model.");
    return renamed.state;
  }
  std::vector<std::string> model_keys = sorted_keys(result);
  std::string prefix = common_components(model_keys);
  log_info(fmt::format("Following weights matched with submodule {} - Total num: {}", prefix.empty() ? "model" : prefix,
                       count_groups(model_keys, old_names)));
  for (const std::string& key : sorted_keys(renamed.state)) {
    if (!matched.contains(key)) result.set(key, renamed.state.at(key));
  }
  return result;
}

}  // namespace treadle

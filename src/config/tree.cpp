#include "config/tree.hpp"

#include <treadle/base/errors.hpp>
#include <treadle/base/text.hpp>

#include <fmt/format.h>

#include <algorithm>

namespace treadle {

Entry* Section::find(std::string_view key) {
  for (Entry& entry : entries) {
    if (entry.key == key) return &entry;
  }
  return nullptr;
}

const Entry* Section::find(std::string_view key) const { return const_cast<Section*>(this)->find(key); }

Entry& Section::at_or_new(std::string_view key) {
  if (Entry* entry = find(key)) return *entry;
  entries.emplace_back().key = key;
  return entries.back();
}

std::vector<std::string_view> split_key(std::string_view key) {
  std::vector<std::string_view> parts;
  if (key.empty()) return parts;
  for (std::size_t begin = 0;;) {
    const std::size_t dot = key.find('.', begin);
    parts.push_back(key.substr(begin, dot - begin));
    if (dot == std::string_view::npos) return parts;
    begin = dot + 1;
  }
}

std::string join_key(std::string_view section, std::string_view key) {
  return section.empty() ? std::string(key) : fmt::format("{}.{}", section, key);
}

Entry* find_entry(Section& root, std::string_view key) {
  Section* section = &root;
  Entry* entry = nullptr;
  for (const std::string_view part : split_key(key)) {
    if (entry && !entry->is_section) return nullptr;
    entry = section->find(part);
    if (!entry) return nullptr;
    section = &entry->section;
  }
  return entry;
}

const Entry* find_entry(const Section& root, std::string_view key) { return find_entry(const_cast<Section&>(root), key); }

namespace {

void collect_keys(const Section& section, const std::string& prefix, bool with_sections, std::vector<std::string>& keys) {
  for (const Entry& entry : section.entries) {
    const std::string path = join_key(prefix, entry.key);
    if (!entry.is_section || with_sections) keys.push_back(path);
    if (entry.is_section) collect_keys(entry.section, path, with_sections, keys);
  }
}

std::string lower(std::string_view text) {
  std::string result(text);
  std::ranges::transform(result, result.begin(), [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
  return result;
}

/// The path of the deepest section that the key names before it goes astray.
std::string known_part(const Section& root, std::string_view key) {
  const std::vector<std::string_view> parts = split_key(key);
  std::string known;
  for (std::size_t i = 0; i + 1 < parts.size(); ++i) {
    const std::string longer = join_key(known, parts[i]);
    const Entry* entry = find_entry(root, longer);
    if (!entry || !entry->is_section) break;
    known = longer;
  }
  return known;
}

}  // namespace

std::vector<std::string> all_keys(const Section& section, bool with_sections) {
  std::vector<std::string> keys;
  collect_keys(section, {}, with_sections, keys);
  return keys;
}

std::string suggest_keys(const Section& root, std::string_view unknown) {
  const std::vector<std::string> keys = all_keys(root, true);
  std::vector<std::string> found;
  const auto propose = [&](const std::string& key) {
    if (found.size() < 3 && std::ranges::find(found, key) == found.end()) found.push_back(key);
  };

  const std::string known = known_part(root, unknown);
  const std::string_view rest = unknown.substr(known.empty() ? 0 : known.size() + 1);
  std::vector<std::string> siblings;
  for (const Entry& entry : known.empty() ? root.entries : find_entry(root, known)->section.entries)
    siblings.push_back(entry.key);
  const std::string_view astray = rest.substr(0, rest.find('.'));
  for (const std::string& sibling : nearest_names(astray, siblings)) {
    const std::string path = join_key(known, sibling) + std::string(rest.substr(astray.size()));
    if (find_entry(root, path)) propose(path);
  }

  const std::string last = lower(split_key(unknown).empty() ? unknown : split_key(unknown).back());
  for (const std::string& key : keys) {
    if (!last.empty() && lower(split_key(key).back()) == last) propose(key);
  }
  if (found.empty()) {
    for (const std::string& key : nearest_names(unknown, keys)) propose(key);
  }

  if (found.empty()) return {};
  std::string text = fmt::format(" (did you mean \"{}\"", found.front());
  for (std::size_t i = 1; i < found.size(); ++i) text += fmt::format("{} \"{}\"", i + 1 == found.size() ? " or" : ",", found[i]);
  return text + "?)";
}

void throw_unknown_key(const Section& root, std::string_view key, const Origin& origin) {
  const std::string parent(key.substr(0, key.rfind('.') == std::string_view::npos ? 0 : key.rfind('.')));
  const Entry* above = parent.empty() ? nullptr : find_entry(root, parent);
  const std::string why =
      above && !above->is_section ? fmt::format("; {} is a value, not a section", parent) : suggest_keys(root, key);
  throw ConfigError(fmt::format("{}: unknown config key \"{}\"{}", origin.to_string(), key, why), std::string(key));
}

void require_mutable(const ConfigState& state, std::string_view operation) {
  if (state.frozen) throw ConfigError(fmt::format("the config is frozen: {} refused; change a clone() of it", operation));
}

}  // namespace treadle

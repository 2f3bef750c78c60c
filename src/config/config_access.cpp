#include <treadle/config/config.hpp>

#include "config/merge.hpp"
#include "config/tree.hpp"

#include <treadle/base/errors.hpp>

#include <fmt/format.h>

namespace treadle {
namespace {

void allow_below(Section& section, bool allow) {
  section.new_allowed = allow;
  for (Entry& entry : section.entries) {
    if (entry.is_section) allow_below(entry.section, allow);
  }
}

const Section& require_section(const Section& root, std::string_view key) {
  if (key.empty()) return root;
  const Entry* entry = find_entry(root, key);
  if (!entry) throw_unknown_key(root, key, {code_source, 0});
  if (!entry->is_section)
    throw ConfigError(fmt::format("{} is a value ({}), not a section", key, entry->origin.to_string()), std::string(key));
  return entry->section;
}

const Entry& require_leaf(const Section& root, std::string_view key) {
  const Entry* entry = find_entry(root, key);
  if (!entry) throw_unknown_key(root, key, {code_source, 0});
  if (entry->is_section)
    throw ConfigError(fmt::format("{} is a section ({}), not a value", key, entry->origin.to_string()), std::string(key));
  return *entry;
}

Dict section_to_dict(const Section& section) {
  Dict dict;
  dict.reserve(section.entries.size());
  for (const Entry& entry : section.entries)
    dict.set(entry.key, entry.is_section ? Value(section_to_dict(entry.section)) : entry.value);
  return dict;
}

[[noreturn]] void throw_wrong_type(const Entry& entry, std::string_view key, std::string_view expected) {
  throw ConfigError(fmt::format("{}: {} must be {}; found {} {}", entry.origin.to_string(), key, expected,
                                to_string(entry.value.type()), show_value(entry.value)),
                    std::string(key));
}

/// Items of a List or Tuple, each by `convert`, which returns nothing for a wrong type.
template <class T, class Convert>
std::vector<T> get_items(const Section& root, std::string_view key, std::string_view expected, Convert convert) {
  const Entry& entry = require_leaf(root, key);
  const auto convert_all = [&](const auto& items) {
    std::vector<T> result;
    result.reserve(items.size());
    for (const Value& item : items) {
      const std::optional<T> converted = convert(item);
      if (!converted) throw_wrong_type(entry, key, expected);
      result.push_back(*converted);
    }
    return result;
  };
  if (entry.value.is(Value::Type::list)) return convert_all(entry.value.as_list());
  if (entry.value.is(Value::Type::tuple)) return convert_all(entry.value.as_tuple());
  throw_wrong_type(entry, key, expected);
}

std::optional<std::int64_t> as_int(const Value& value) {
  return value.is(Value::Type::integer) ? std::optional(value.as_int()) : std::nullopt;
}
std::optional<double> as_double(const Value& value) {
  const bool number = value.is(Value::Type::real) || value.is(Value::Type::integer);
  return number ? std::optional(value.as_double()) : std::nullopt;
}
std::optional<std::string> as_string(const Value& value) {
  return value.is(Value::Type::string) ? std::optional(value.as_string()) : std::nullopt;
}

}  // namespace

void Config::allow_new_keys(std::string_view section, bool allow) {
  require_mutable(*state_, "allowing new keys");
  allow_below(const_cast<Section&>(require_section(state_->root, section)), allow);
}

void Config::register_deprecated_key(std::string key) {
  require_mutable(*state_, fmt::format("deprecating {}", key));
  state_->deprecated.insert(std::move(key));
}

void Config::register_renamed_key(std::string old_key, std::string new_key, std::string note) {
  require_mutable(*state_, fmt::format("renaming {}", old_key));
  state_->renamed[std::move(old_key)] = {std::move(new_key), std::move(note)};
}

void Config::freeze() noexcept { state_->frozen = true; }
bool Config::frozen() const noexcept { return state_->frozen; }

Config Config::clone() const {
  Config copy(*this);
  copy.state_->frozen = false;
  return copy;
}

bool Config::contains(std::string_view key) const { return find_entry(state_->root, key) != nullptr; }

bool Config::is_section(std::string_view key) const {
  const Entry* entry = find_entry(state_->root, key);
  return entry && entry->is_section;
}

std::vector<std::string> Config::keys(std::string_view section) const {
  std::vector<std::string> result = all_keys(require_section(state_->root, section), false);
  for (std::string& key : result) key = join_key(section, key);
  return result;
}

Dict Config::to_dict(std::string_view section) const { return section_to_dict(require_section(state_->root, section)); }

const std::vector<std::string>& Config::files() const noexcept { return state_->files; }

const Value& Config::at(std::string_view key) const { return require_leaf(state_->root, key).value; }
const Origin& Config::origin(std::string_view key) const { return require_leaf(state_->root, key).origin; }
bool Config::is_null(std::string_view key) const { return at(key).is_null(); }

bool Config::get_bool(std::string_view key) const {
  const Entry& entry = require_leaf(state_->root, key);
  if (!entry.value.is(Value::Type::boolean)) throw_wrong_type(entry, key, "a bool");
  return entry.value.as_bool();
}

std::int64_t Config::get_int(std::string_view key) const {
  const Entry& entry = require_leaf(state_->root, key);
  const std::optional<std::int64_t> value = as_int(entry.value);
  if (!value) throw_wrong_type(entry, key, "an int");
  return *value;
}

double Config::get_double(std::string_view key) const {
  const Entry& entry = require_leaf(state_->root, key);
  const std::optional<double> value = as_double(entry.value);
  if (!value) throw_wrong_type(entry, key, "a number");
  return *value;
}

const std::string& Config::get_string(std::string_view key) const {
  const Entry& entry = require_leaf(state_->root, key);
  if (!entry.value.is(Value::Type::string)) throw_wrong_type(entry, key, "a string");
  return entry.value.as_string();
}

std::optional<std::int64_t> Config::get_optional_int(std::string_view key) const {
  return is_null(key) ? std::nullopt : std::optional(get_int(key));
}

std::optional<double> Config::get_optional_double(std::string_view key) const {
  return is_null(key) ? std::nullopt : std::optional(get_double(key));
}

std::vector<std::int64_t> Config::get_ints(std::string_view key) const {
  return get_items<std::int64_t>(state_->root, key, "a list of ints", as_int);
}

std::vector<double> Config::get_doubles(std::string_view key) const {
  return get_items<double>(state_->root, key, "a list of numbers", as_double);
}

std::vector<std::string> Config::get_strings(std::string_view key) const {
  return get_items<std::string>(state_->root, key, "a list of strings", as_string);
}

void Config::fail(std::string_view key, const std::string& problem) const {
  const Entry& entry = require_leaf(state_->root, key);
  throw ConfigError(fmt::format("{} is {} ({}): {}", key, show_value(entry.value), entry.origin.to_string(), problem),
                    std::string(key));
}

}  // namespace treadle

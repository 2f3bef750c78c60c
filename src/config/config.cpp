#include <treadle/config/config.hpp>

#include "config/load.hpp"
#include "config/merge.hpp"
#include "config/tree.hpp"
#include "config/yaml_reader.hpp"

#include <treadle/base/errors.hpp>
#include <treadle/base/log.hpp>
#include <treadle/config/versions.hpp>

#include <fmt/format.h>

namespace treadle {
namespace {

void decode_leaves(Section& section, const std::string& path) {
  for (Entry& entry : section.entries) {
    const std::string key = join_key(path, entry.key);
    if (entry.is_section) {
      decode_leaves(entry.section, key);
    } else {
      entry.value = decode_value(std::move(entry.value), key, entry.origin);
      entry.declared = entry.value.type();
    }
  }
}

/// Order and permissions as in `model`, where keys went through a translation and back.
void arrange_like(const Section& model, Section& section) {
  Section result;
  result.new_allowed = model.new_allowed;
  for (const Entry& entry : model.entries) {
    if (Entry* found = section.find(entry.key)) {
      if (entry.is_section && found->is_section) arrange_like(entry.section, found->section);
      result.entries.push_back(std::move(*found));
      found->key.clear();
    }
  }
  for (Entry& entry : section.entries) {
    if (!entry.key.empty()) result.entries.push_back(std::move(entry));
  }
  section = std::move(result);
}

/// The VERSION a loaded file was written for.
std::int64_t file_version(const Section& loaded, const std::string& file) {
  const Entry* entry = loaded.find("VERSION");
  if (entry && !entry->value.is(Value::Type::null)) {
    if (!entry->value.is(Value::Type::integer)) {
      throw ConfigError(fmt::format("{}: VERSION must be an integer", entry->origin.to_string()), "VERSION");
    }
    return entry->value.as_int();
  }
  const bool old = find_entry(loaded, "MODEL.WEIGHT") || find_entry(loaded, "TEST.AUG_ON");
  const int version = old ? 1 : latest_config_version;
  log_warning(fmt::format("{}: the config has no VERSION; taken for version {}", file, version));
  return version;
}

}  // namespace

std::string Origin::to_string() const { return line > 0 ? fmt::format("{}:{}", source, line) : source; }

Config::Config() : state_(std::make_unique<ConfigState>()) {}
Config::Config(const Config& other) : state_(std::make_unique<ConfigState>(*other.state_)) {}
Config::Config(Config&& other) noexcept = default;
Config& Config::operator=(const Config& other) {
  if (this != &other) state_ = std::make_unique<ConfigState>(*other.state_);
  return *this;
}
Config& Config::operator=(Config&& other) noexcept = default;
Config::~Config() = default;

Config Config::parse(std::string_view yaml, const std::string& source) {
  Config config;
  config.state_->root = read_yaml(yaml, source, {});
  decode_leaves(config.state_->root, {});
  return config;
}

void Config::merge_from_file(const std::filesystem::path& file, const ConfigLoadOptions& options) {
  require_mutable(*state_, fmt::format("merging \"{}\"", file.string()));
  LoadedFile loaded = load_with_bases(file, options);
  auto next = std::make_unique<ConfigState>(*state_);
  const Entry* own = next->root.find("VERSION");
  const std::int64_t version = own ? file_version(loaded.tree, file.string()) : latest_config_version;
  if (own && !(own->value.is(Value::Type::integer) && own->value.as_int() == latest_config_version)) {
    fail("VERSION", fmt::format("only a tree of version {} takes files", latest_config_version));
  }
  if (version > latest_config_version || version < 0) {
    const Entry* entry = loaded.tree.find("VERSION");
    throw ConfigError(fmt::format("{}: the config is of version {}; the versions known here are 0 to {}", entry->origin.to_string(), version,
                                  latest_config_version),
                      "VERSION");
  }
  if (version == latest_config_version) {
    merge_sections(loaded.tree, *next, Decode::yes);
  } else {
    log_warning(fmt::format("{}: an old config of version {}, translated to version {}", file.string(), version, latest_config_version));
    Config old = downgrade_config(*this, static_cast<int>(version));
    merge_sections(loaded.tree, *old.state_, Decode::yes);
    next->root = upgrade_config(old).state_->root;
    arrange_like(state_->root, next->root);
  }
  next->files.insert(next->files.end(), loaded.files.begin(), loaded.files.end());
  state_ = std::move(next);
}

void Config::merge_from_list(std::span<const std::string> keys_and_values) {
  List values;
  for (const std::string& text : keys_and_values) values.push_back(text);
  merge_from_list(values);
}

void Config::merge_from_list(const List& keys_and_values) {
  require_mutable(*state_, "the override");
  const Origin origin{command_line_source, 0};
  auto next = std::make_unique<ConfigState>(*state_);
  for (std::size_t i = 0; i < keys_and_values.size(); i += 2) {
    if (!keys_and_values[i].is(Value::Type::string)) {
      throw ConfigError(fmt::format("{}: {} stands where a key is expected", origin.to_string(), show_value(keys_and_values[i])));
    }
    const std::string& key = keys_and_values[i].as_string();
    if (i + 1 == keys_and_values.size()) {
      throw ConfigError(fmt::format("{}: the override {} has no value; write KEY VALUE", origin.to_string(), key), key);
    }
    if (key == "_BASE_") throw ConfigError(fmt::format("{}: _BASE_ can stand in files only", origin.to_string()), key);
    if (handle_retired_key(*next, key, origin)) continue;
    Entry* entry = find_entry(next->root, key);
    if (!entry) throw_unknown_key(next->root, key, origin);
    entry->value = fit_type(decode_value(keys_and_values[i + 1], key, origin), *entry, key, origin);
    entry->origin = origin;
  }
  state_ = std::move(next);
}

void Config::merge(const Config& other) {
  require_mutable(*state_, "merging a config");
  auto next = std::make_unique<ConfigState>(*state_);
  merge_sections(other.state_->root, *next, Decode::no);
  state_ = std::move(next);
}

void Config::set(std::string_view key, Value value) {
  require_mutable(*state_, fmt::format("setting {}", key));
  const Origin origin{code_source, 0};
  Entry* entry = find_entry(state_->root, key);
  if (!entry) throw_unknown_key(state_->root, key, origin);
  entry->value = fit_type(std::move(value), *entry, key, origin);
  entry->origin = origin;
}

void Config::declare(std::string_view key, Value default_value) {
  require_mutable(*state_, fmt::format("declaring {}", key));
  const std::vector<std::string_view> parts = split_key(key);
  const auto refuse = [&](std::string_view why) { throw ConfigError(fmt::format("cannot declare \"{}\": {}", key, why), std::string(key)); };
  if (parts.empty()) refuse("a key has a name");
  Section* section = &state_->root;
  std::size_t known = 0;
  for (; known < parts.size(); ++known) {
    if (parts[known].empty()) refuse("a part of it is empty");
    Entry* entry = section->find(parts[known]);
    if (!entry) break;
    if (!entry->is_section || known + 1 == parts.size()) refuse(fmt::format("{} exists already", key.substr(0, static_cast<std::size_t>(parts[known].end() - key.begin()))));
    section = &entry->section;
  }
  for (std::size_t i = known; i < parts.size(); ++i) {
    if (parts[i].empty()) refuse("a part of it is empty");
  }
  for (std::size_t i = known; i < parts.size(); ++i) {
    Entry& entry = section->at_or_new(parts[i]);
    entry.origin = {default_source, 0};
    entry.is_section = i + 1 < parts.size();
    entry.section.new_allowed = section->new_allowed;
    if (!entry.is_section) {
      entry.declared = default_value.type();
      entry.value = std::move(default_value);
    }
    section = &entry.section;
  }
}

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
  if (!entry->is_section) throw ConfigError(fmt::format("{} is a value ({}), not a section", key, entry->origin.to_string()), std::string(key));
  return entry->section;
}

const Entry& require_leaf(const Section& root, std::string_view key) {
  const Entry* entry = find_entry(root, key);
  if (!entry) throw_unknown_key(root, key, {code_source, 0});
  if (entry->is_section) throw ConfigError(fmt::format("{} is a section ({}), not a value", key, entry->origin.to_string()), std::string(key));
  return *entry;
}

Dict section_to_dict(const Section& section) {
  Dict dict;
  dict.reserve(section.entries.size());
  for (const Entry& entry : section.entries) dict.set(entry.key, entry.is_section ? Value(section_to_dict(entry.section)) : entry.value);
  return dict;
}

[[noreturn]] void throw_wrong_type(const Entry& entry, std::string_view key, std::string_view expected) {
  throw ConfigError(fmt::format("{}: {} must be {}; found {} {}", entry.origin.to_string(), key, expected, to_string(entry.value.type()),
                                show_value(entry.value)),
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
  throw ConfigError(fmt::format("{} is {} ({}): {}", key, show_value(entry.value), entry.origin.to_string(), problem), std::string(key));
}

}  // namespace treadle

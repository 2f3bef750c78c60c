#include <treadle/config/config.hpp>

#include "config/load.hpp"
#include "config/merge.hpp"
#include "config/tree.hpp"
#include "config/yaml_nodes.hpp"
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
    throw ConfigError(fmt::format("{}: VERSION is {}; this program knows the versions 0 to {}", entry->origin.to_string(),
                                  version, latest_config_version),
                      "VERSION");
  }
  if (version == latest_config_version) {
    merge_sections(loaded.tree, *next, Decode::yes);
  } else {
    log_warning(
        fmt::format("{}: an old config of version {}, translated to version {}", file.string(), version, latest_config_version));
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
    if (const std::size_t equals = key.find('='); equals != std::string::npos && find_entry(next->root, key.substr(0, equals))) {
      throw ConfigError(fmt::format("{}: the override \"{}\" has an equals sign; write {} {}", origin.to_string(), key,
                                    key.substr(0, equals), key.substr(equals + 1)),
                        key);
    }
    if (key.ends_with(".yaml") || key.ends_with(".yml")) {
      throw ConfigError(fmt::format("{}: {} stands where a key is expected; a config file is given by --config-file {}",
                                    origin.to_string(), key, key),
                        key);
    }
    if (i + 1 == keys_and_values.size()) {
      throw ConfigError(fmt::format("{}: the override {} has no value; write KEY VALUE", origin.to_string(), key), key);
    }
    if (const Value& value = keys_and_values[i + 1]; value.is(Value::Type::string) && !is_yaml_text(value.as_string())) {
      throw ConfigError(fmt::format("{}: the value of {} is not UTF-8, which a config must be", origin.to_string(), key), key);
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
  const auto refuse = [&](std::string_view why) {
    throw ConfigError(fmt::format("cannot declare \"{}\": {}", key, why), std::string(key));
  };
  if (parts.empty()) refuse("a key has a name");
  Section* section = &state_->root;
  std::size_t known = 0;
  for (; known < parts.size(); ++known) {
    if (parts[known].empty()) refuse("a part of it is empty");
    Entry* entry = section->find(parts[known]);
    if (!entry) break;
    if (!entry->is_section || known + 1 == parts.size())
      refuse(fmt::format("{} exists already", key.substr(0, static_cast<std::size_t>(parts[known].end() - key.begin()))));
    section = &entry->section;
  }
  for (std::size_t i = known; i < parts.size(); ++i) {
    if (parts[i].empty()) refuse("a part of it is empty");
  }
  Entry* leaf = nullptr;
  for (std::size_t i = known; i < parts.size(); ++i) {
    Entry& entry = section->at_or_new(parts[i]);
    entry.origin = {default_source, 0};
    entry.is_section = i + 1 < parts.size();
    entry.section.new_allowed = section->new_allowed;
    leaf = &entry;
    section = &entry.section;
  }
  leaf->declared = default_value.type();
  leaf->value = std::move(default_value);
}

}  // namespace treadle

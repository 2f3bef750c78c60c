#pragma once

#include <treadle/base/errors.hpp>
#include <treadle/base/registry.hpp>
#include <treadle/config/config.hpp>

#include <initializer_list>
#include <string>
#include <string_view>
#include <utility>

namespace treadle {

/// Does what `action` does; a ConfigError of the field `first` comes out as one of the config key `second`, with the place of its
/// value in place of the field's name.
template <class Action>
auto with_keys(const Config& config, std::initializer_list<std::pair<std::string, std::string>> keys, const Action& action) {
  try {
    return action();
  } catch (const ConfigError& error) {
    for (const auto& [field, key] : keys) {
      if (error.key() != field) continue;
      const std::string text = error.what();
      const bool names_field = text.starts_with(field + " must ");
      config.fail(key, text.substr(names_field ? field.size() + 1 : 0));
    }
    throw;
  }
}

/// The value that stands beside the name that `key` holds; a ConfigError at `key` that lists the names for any other.
template <class Enum>
Enum choice(const Config& config, const std::string& key, std::initializer_list<std::pair<std::string_view, Enum>> choices) {
  const std::string& found = config.get_string(key);
  std::string expected;
  for (const auto& [name, value] : choices) {
    if (found == name) return value;
    const bool first = expected.empty(), last = name == (choices.end() - 1)->first;
    expected.append(first ? "expected " : last ? " or " : ", ").append("\"").append(name).append("\"");
  }
  config.fail(key, expected);
}

/// Throws a ConfigError at `key` when the name it holds is not registered.
template <class Entry>
void require_registered(const Config& config, const std::string& key, const Registry<Entry>& registry) {
  try {
    registry.get(config.get_string(key));
  } catch (const ConfigError& error) {
    config.fail(key, error.what());
  }
}

}  // namespace treadle

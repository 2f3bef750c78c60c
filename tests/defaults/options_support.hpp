#pragma once

#include <treadle/base/errors.hpp>
#include <treadle/config/config.hpp>
#include <treadle/config/defaults.hpp>

#include <span>
#include <string>
#include <vector>

namespace treadle {

/// The defaults with `overrides`: KEY, VALUE, KEY, VALUE, …
inline Config with(const std::vector<std::string>& overrides) {
  Config config = default_config();
  config.merge_from_list(std::span<const std::string>(overrides));
  return config;
}

/// What `read` says about a config with `overrides`; empty when it says nothing.
template <class Read>
std::string problem(const Read& read, const std::vector<std::string>& overrides) {
  try {
    read(with(overrides));
    return "";
  } catch (const ConfigError& error) {
    return error.what();
  }
}

}  // namespace treadle

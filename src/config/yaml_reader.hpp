#pragma once

#include "config/tree.hpp"

#include <string>
#include <string_view>

namespace treadle {

/// The mapping that a YAML text holds: mappings as sections, everything else as leaves, strings not yet decoded. `source` becomes
/// the origin of every entry and stands in errors. FormatError when the text is not YAML, ConfigError when it holds something
/// that no config can.
Section read_yaml(std::string_view text, const std::string& source, const ConfigLoadOptions& options);

}  // namespace treadle

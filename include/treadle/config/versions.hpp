#pragma once

#include <treadle/config/config.hpp>

namespace treadle {

/// The newest layout of keys; `VERSION` of the defaults. Versions 0 and 1 are Detectron2's before its release.
inline constexpr int latest_config_version = 2;

/// A full tree in an older layout, as a file of that version would name its keys; values that are new since then stay, those that
/// are gone get their old default. `config` must be a full tree of a version not below `version`. ConfigError otherwise.
Config downgrade_config(const Config& config, int version);

/// The inverse: keys renamed to a newer layout, values and origins kept. ConfigError when `config` is newer than `version`.
Config upgrade_config(const Config& config, int version = latest_config_version);

}  // namespace treadle

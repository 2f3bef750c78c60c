#pragma once

#include <treadle/config/config.hpp>

#include <string_view>

namespace treadle {

/// A fresh tree of every key Treadle knows, with its default: Detectron2's tree and the section TREADLE. It is the table
/// `configs/defaults.yaml`, kept inside the library. Any thread.
Config default_config();

/// The text of that table, comments included.
std::string_view default_config_text() noexcept;

}  // namespace treadle

#pragma once

#include "config/tree.hpp"

#include <filesystem>
#include <string>
#include <vector>

namespace treadle {

struct LoadedFile {
  Section tree;                    ///< not yet decoded; `_BASE_` resolved
  std::vector<std::string> files;  ///< in the order they were opened
};

LoadedFile load_with_bases(const std::filesystem::path& file, const ConfigLoadOptions& options);

}  // namespace treadle

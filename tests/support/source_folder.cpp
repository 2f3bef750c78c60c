#include "tests/support/source_folder.hpp"

namespace treadle {

std::string source_folder() { return TREADLE_SOURCE_DIR; }

}  // namespace treadle

#pragma once

#include <string>

namespace treadle {

/// The folder of the project's sources, for tests that read a file of it. Here rather than in every unit's flags: objects of
/// another checkout stay usable.
std::string source_folder();

}  // namespace treadle

#pragma once

#include <string>
#include <vector>

namespace treadle {

/// The parts of a parameter's name between its dots.
inline std::vector<std::string> name_parts(const std::string& name) {
  std::vector<std::string> parts;
  for (std::size_t from = 0;;) {
    const std::size_t dot = name.find('.', from);
    parts.push_back(name.substr(from, dot - from));
    if (dot == std::string::npos) return parts;
    from = dot + 1;
  }
}

}  // namespace treadle

#pragma once

#include <treadle/base/errors.hpp>

#include <filesystem>

namespace treadle {

/// What `action` returns; what std::filesystem throws meanwhile becomes an IoError of `operation`.
template <class Action>
auto with_io_errors(const char* operation, const std::filesystem::path& path, const Action& action) {
  try {
    return action();
  } catch (const std::filesystem::filesystem_error& error) {
    throw IoError(operation, error.path1().empty() ? path : error.path1(), error.code().value());
  }
}

}  // namespace treadle

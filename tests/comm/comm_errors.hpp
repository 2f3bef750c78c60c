#pragma once

#include <tests/support/ranks.hpp>
#include <treadle/base/errors.hpp>

#include <chrono>
#include <functional>
#include <string>

namespace treadle {

inline bool contains(const std::string& text, const std::string& part) { return text.find(part) != std::string::npos; }

/// What `call` throws as a CommError.
inline std::string comm_error_of(const std::function<void()>& call) {
  try {
    call();
  } catch (const CommError& error) {
    return error.what();
  }
  return "no CommError";
}

/// Of a group that must not wait until its time is over: everybody is killed before.
inline const RanksOptions kNoWait{.timeout = std::chrono::seconds(100), .hard_limit = std::chrono::seconds(30)};

}  // namespace treadle

#pragma once

#include <exception>
#include <string>

namespace treadle {

/// What an exception says, in one line and without the frames that LibTorch appends to its messages.
std::string exception_text(const std::exception_ptr& exception);

}  // namespace treadle

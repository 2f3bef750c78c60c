#pragma once

#include <cstdint>

namespace treadle {

/// How often operator new was called in this process, by any thread. A program that uses it links count_news.cpp, which replaces
/// operator new of the whole process, LibTorch's included.
std::int64_t count_news() noexcept;

}  // namespace treadle

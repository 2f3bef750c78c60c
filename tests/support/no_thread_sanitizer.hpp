#pragma once

#include <gtest/gtest.h>

namespace treadle {

/// Skips every test of a program that includes this when it is built with the thread sanitizer.
#if defined(__SANITIZE_THREAD__)
struct NoThreadSanitizer : testing::Environment {
  void SetUp() override { GTEST_SKIP() << "the thread sanitizer starts a thread before main, and launch() forks before any"; }
};
inline testing::Environment* const no_thread_sanitizer = testing::AddGlobalTestEnvironment(new NoThreadSanitizer);
#endif

}  // namespace treadle

#include <gtest/gtest.h>

/// ctest counts this exit status as "skipped": every test was skipped, none failed.
constexpr int kAllSkipped = 77;

int main(int argc, char** argv) {
  testing::InitGoogleTest(&argc, argv);
  const int status = RUN_ALL_TESTS();
  const testing::UnitTest& run = *testing::UnitTest::GetInstance();
  const bool all_skipped = run.successful_test_count() == 0 && run.skipped_test_count() > 0;
  return status == 0 && all_skipped ? kAllSkipped : status;
}

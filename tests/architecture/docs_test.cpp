#include "source_text.hpp"
#include "violations.hpp"

/// `make docs` runs these alone.
namespace treadle::architecture {
namespace {

const Root kRoot = TREADLE_SOURCE_DIR;

TEST(Docs, EveryRoomHasItsParagraph) { expect_none(undescribed_rooms(kRoot)); }

TEST(Docs, TheProgramInTheReadmeIsTheExample) {
  const std::string program = read_file(kRoot / "examples/plain_loop/main.cpp");
  ASSERT_FALSE(program.empty());
  EXPECT_NE(read_file(kRoot / "README.md").find("```cpp\n" + program + "```"), std::string::npos);
}

TEST(Docs, TheLoopInTheReadmeIsTheExample) {
  const std::string program = read_file(kRoot / "examples/own_loop/main.cpp");
  ASSERT_FALSE(program.empty());
  EXPECT_NE(read_file(kRoot / "README.md").find("```cpp\n" + program + "```"), std::string::npos);
}

TEST(Docs, LinksAndNamedFilesExist) { expect_none(broken_references(kRoot)); }

}  // namespace
}  // namespace treadle::architecture

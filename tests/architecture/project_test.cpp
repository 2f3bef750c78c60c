#include "violations.hpp"

#include "tests/support/source_folder.hpp"

/// The project's own tree keeps every rule of its layout.
namespace treadle::architecture {
namespace {

const Root kRoot = treadle::source_folder();

TEST(Project, HasTheTreeThatTheRulesRead) {
  EXPECT_GT(files_below(kRoot, "include/treadle", {".hpp"}).size(), 5u);
  EXPECT_GT(files_below(kRoot, "src", {".cpp"}).size(), 3u);
}

TEST(Project, RoomsIncludeOnlyWhatTheTableAllows) { expect_none(forbidden_includes(kRoot)); }

TEST(Project, LibrariesOfOthersStayWhereTheyBelong) { expect_none(leaked_libraries(kRoot)); }

TEST(Project, LibraryRoomsNeitherExitNorPrint) { expect_none(forbidden_calls(kRoot)); }

TEST(Project, PublicHeadersBeginWithPragmaOnce) { expect_none(headers_without_pragma_once(kRoot)); }

TEST(Project, FilesAreShort) { expect_none(overlong_files(kRoot)); }

TEST(Project, ListOfLongFilesIsCurrent) {
  for (const auto& [file, reason] : long_files()) {
    EXPECT_TRUE(std::filesystem::exists(kRoot / file)) << file << " is gone: take it off the list";
    EXPECT_FALSE(reason.empty()) << file;
  }
}

TEST(Project, NamesNoFolderOfOneMachine) { expect_none(machine_paths(kRoot)); }

TEST(Project, TheTableIsWithoutCycles) {
  // Rooms stand in an order in which each includes only earlier ones: taking away rooms without open needs empties the table.
  auto rest = allowed_includes();
  bool moved = true;
  while (moved) {
    moved = false;
    for (auto room = rest.begin(); room != rest.end();) {
      bool ready = true;
      for (const std::string& need : room->second) ready = ready && !rest.contains(need);
      moved = moved || ready;
      room = ready ? rest.erase(room) : std::next(room);
    }
  }
  EXPECT_TRUE(rest.empty()) << rest.begin()->first << " is part of a cycle";
}

}  // namespace
}  // namespace treadle::architecture

#include "source_text.hpp"
#include "violations.hpp"

#include "tests/support/source_folder.hpp"

/// `make docs` runs these alone.
namespace treadle::architecture {
namespace {

const Root kRoot = treadle::source_folder();

TEST(Docs, EveryRoomHasItsParagraph) { expect_none(undescribed_rooms(kRoot)); }

TEST(Docs, EveryPieceOfCodeIsThatOfAnExample) { expect_none(code_of_no_example(kRoot)); }

TEST(Docs, EveryConfigKeyExists) { expect_none(unknown_config_keys(kRoot)); }

TEST(Docs, LinksAndNamedFilesExist) { expect_none(broken_references(kRoot)); }

}  // namespace
}  // namespace treadle::architecture

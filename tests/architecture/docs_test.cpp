#include "violations.hpp"

/// `make docs` runs these alone.
namespace treadle::architecture {
namespace {

const Root kRoot = TREADLE_SOURCE_DIR;

TEST(Docs, EveryRoomHasItsParagraph) { expect_none(undescribed_rooms(kRoot)); }

TEST(Docs, LinksAndNamedFilesExist) { expect_none(broken_references(kRoot)); }

}  // namespace
}  // namespace treadle::architecture

#include <treadle/checkpoint/file.hpp>

#include <gtest/gtest.h>

#include <iostream>

#include "tests/reference/checkpoints_tree.hpp"
#include "tests/reference/reference_cases.hpp"
#include "tests/support/temporary_folder.hpp"

namespace treadle {
namespace {

using nlohmann::ordered_json;

const ordered_json& cases() {
  static const auto all = reference_cases("checkpoints");
  return all;
}

std::string joined(const std::vector<std::string>& lines) {
  std::string text;
  for (const std::string& line : lines) text += "\n  " + line;
  return text;
}

TEST(CheckpointsReference, EveryFileGivesItsTree) {
  TreeComparison comparison;
  int count = 0;
  for (const auto& test : cases()) {
    if (test["kind"] != "file") continue;
    ++count;
    auto path = reference_folder() / test["input"]["file"].get<std::string>();
    try {
      auto differences = comparison.compare(load_checkpoint_file(path), test["expect"]["tree"]);
      EXPECT_TRUE(differences.empty()) << test["id"] << joined(differences);
    } catch (const std::exception& error) {
      ADD_FAILURE() << test["id"] << ": " << error.what();
    }
  }
  EXPECT_GT(count, 0);
  std::cout << "  " << count << " files;";
  for (const auto& [type, number] : comparison.met()) std::cout << " " << type << " " << number;
  std::cout << "\n";
}

// What was read is written again and read again: nothing may get lost on the way.
TEST(CheckpointsReference, EveryFileSurvivesOurWriter) {
  TemporaryFolder folder;
  for (const auto& test : cases()) {
    if (test["kind"] != "file") continue;
    Value value = load_checkpoint_file(reference_folder() / test["input"]["file"].get<std::string>());
    save_checkpoint_file(folder / "copy.pth", value);
    auto differences = TreeComparison().compare(load_checkpoint_file(folder / "copy.pth"), test["expect"]["tree"]);
    EXPECT_TRUE(differences.empty()) << test["id"] << joined(differences);
  }
}

}  // namespace
}  // namespace treadle

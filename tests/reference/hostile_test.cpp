#include <treadle/checkpoint/file.hpp>
#include <treadle/checkpoint/open_file.hpp>

#include <gtest/gtest.h>

#include <fstream>
#include <iostream>
#include <iterator>
#include <map>

#include "tests/fuzz/mutator.hpp"
#include "tests/reference/reference_cases.hpp"
#include "tests/support/heap_meter.hpp"

namespace treadle {
namespace {

const nlohmann::ordered_json& cases() {
  static const auto all = reference_cases("hostile");
  return all;
}

/// Loads the file of a case; what is promised of memory is expected of every one.
std::string load(const nlohmann::ordered_json& test, const LoadOptions& options = {}) {
  const std::string path = reference_folder() / test["input"]["file"].get<std::string>();
  std::ifstream file(path, std::ios::binary);
  const std::string content{std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
  std::string outcome;
  HeapMeter::start();
  try {
    load_checkpoint_file(path, options);
    outcome = "accepted";
  } catch (const FormatError& error) {
    outcome = error.file().empty() ? std::string("an error without a file: ") + error.what() : "rejected";
  } catch (const std::exception& error) {
    outcome = std::string("another kind of error: ") + error.what();
  }
  EXPECT_LE(HeapMeter::heap_peak(), (1 << 20) + 64 * pickle_size(content)) << path;
  EXPECT_LE(HeapMeter::tensor_peak(), content.size()) << path;
  return outcome;
}

void run_all(const LoadOptions& options) {
  std::map<std::string, int> counts;
  for (const auto& test : cases()) {
    std::string must = test["expect"]["must"];
    std::string outcome = load(test, options);
    ++counts[must + ", " + outcome];
    std::string where = test["id"].get<std::string>() + " (" + test["input"]["what"].get<std::string>() + "): " + outcome;
    if (must == "reject") {
      EXPECT_EQ(outcome, "rejected") << where;
    }
    if (must == "accept") {
      EXPECT_EQ(outcome, "accepted") << where;
    }
    if (must == "either") {
      EXPECT_TRUE(outcome == "accepted" || outcome == "rejected") << where;
    }
  }
  EXPECT_FALSE(std::filesystem::exists("/tmp/d2_hostile_pwned")) << "code of a hostile file was run";
  for (const auto& [outcome, count] : counts) std::cout << "  " << outcome << ": " << count << "\n";
}

TEST(HostileReference, EveryFileHasItsOutcome) { run_all({}); }

TEST(HostileReference, KeepingUnknownClassesIsAsSafe) {
  // Files that name unknown classes are then accepted as inert data; nothing else changes.
  for (const auto& test : cases()) {
    std::string outcome = load(test, {.unknown = UnknownGlobals::keep_opaque});
    EXPECT_TRUE(outcome == "accepted" || outcome == "rejected") << test["id"] << ": " << outcome;
    if (test["expect"]["must"] == "accept") {
      EXPECT_EQ(outcome, "accepted") << test["id"];
    }
  }
  EXPECT_FALSE(std::filesystem::exists("/tmp/d2_hostile_pwned"));
}

TEST(HostileReference, OpeningIsAsSafe) {
  for (const auto& test : cases()) {
    std::string outcome = "accepted";
    try {
      const CheckpointFile file(reference_folder() / test["input"]["file"].get<std::string>());
      file.read(file.content());
    } catch (const FormatError&) {
      outcome = "rejected";
    }
    const std::string must = test["expect"]["must"];
    EXPECT_FALSE((must == "reject" && outcome == "accepted") || (must == "accept" && outcome == "rejected")) << test["id"];
  }
}

TEST(HostileReference, WithoutChecksumsAndDataTheShapeOfFilesIsStillChecked) {
  for (const auto& test : cases()) {
    std::string outcome = load(test, {.verify = false});
    if (test["expect"]["must"] == "reject" && outcome == "accepted") ADD_FAILURE() << test["id"];
  }
}

}  // namespace
}  // namespace treadle

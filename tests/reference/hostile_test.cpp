#include <treadle/checkpoint/file.hpp>

#include <gtest/gtest.h>
#include <sys/resource.h>

#include <chrono>
#include <iostream>
#include <map>

#include "tests/reference/reference_cases.hpp"

namespace treadle {
namespace {

const nlohmann::ordered_json& cases() {
  static const auto all = reference_cases("hostile");
  return all;
}

std::string load(const nlohmann::ordered_json& test, const LoadOptions& options = {}) {
  try {
    load_checkpoint_file(reference_folder() / test["input"]["file"].get<std::string>(), options);
    return "accepted";
  } catch (const FormatError& error) {
    if (error.file().empty()) return std::string("an error without a file: ") + error.what();
    return "rejected";
  } catch (const std::exception& error) {
    return std::string("another kind of error: ") + error.what();
  }
}

long peak_kilobytes() {
  rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
  return usage.ru_maxrss;
}

void run_all(const LoadOptions& options) {
  std::map<std::string, int> counts;
  long before = peak_kilobytes();
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
  // Every file is below 1 MiB: the sum of all that is held at one time stays far below what one of the claims in them would take.
  EXPECT_LT(peak_kilobytes() - before, 256 << 10);
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

TEST(HostileReference, WithoutChecksumsAndDataTheShapeOfFilesIsStillChecked) {
  for (const auto& test : cases()) {
    std::string outcome = load(test, {.verify = false});
    if (test["expect"]["must"] == "reject" && outcome == "accepted") ADD_FAILURE() << test["id"];
  }
}

}  // namespace
}  // namespace treadle

#include <treadle/config/versions.hpp>

#include <treadle/config/auto_scale.hpp>
#include <treadle/config/defaults.hpp>

#include "tests/config/helpers.hpp"

#include <cmath>

namespace treadle {
namespace {

LogCapture quiet() {
  return LogCapture([](LogLevel, std::string_view) {});
}

TEST(Versions, AnOldFileKeepsOrderAndOrigins) {
  Config config = default_config();
  const Folder folder;
  const auto file = folder.write("old.yaml", "VERSION: 1\nMODEL:\n  WEIGHT: w.pth\nTEST:\n  AUG_MIN_SIZES: [1, 2]\n");
  std::vector<std::string> lines;
  const LogCapture capture([&](LogLevel, std::string_view line) { lines.emplace_back(line); });
  config.merge_from_file(file);
  EXPECT_EQ(config.get_string("MODEL.WEIGHTS"), "w.pth");
  EXPECT_EQ(config.origin("MODEL.WEIGHTS").to_string(), file.string() + ":3");
  expect_value(config.at("TEST.AUG.MIN_SIZES"), (Tuple{1, 2}));
  EXPECT_EQ(config.get_int("VERSION"), 2);
  EXPECT_EQ(config.keys(), default_config().keys());
  ASSERT_EQ(lines.size(), 1u);
  EXPECT_NE(lines[0].find("version 1"), std::string::npos);
}

TEST(Versions, OtherVersionsAreRefused) {
  Config config = default_config();
  const Folder folder;
  for (const char* version : {"3", "-1", "text", "2.0", "true", "[2]"}) {
    const auto file = folder.write("a.yaml", "SEED: 1\nVERSION: " + std::string(version) + "\n");
    expect_message<ConfigError>([&] { config.merge_from_file(file); }, {file.string() + ":2", "VERSION"});
  }
  const auto newer = folder.write("b.yaml", "VERSION: 3\n");
  expect_message<ConfigError>([&] { config.merge_from_file(newer); }, {"3", "2"});
  config.set("VERSION", 1);
  const auto file = folder.write("c.yaml", "VERSION: 2\n");
  expect_message<ConfigError>([&] { config.merge_from_file(file); }, {"VERSION is 1 (code)"});
}

TEST(Versions, TranslationThereAndBack) {
  const Config config = default_config();
  for (int version = 0; version <= latest_config_version; ++version) {
    const Config old = downgrade_config(config, version);
    EXPECT_EQ(old.get_int("VERSION"), version);
    EXPECT_EQ(upgrade_config(old).dump(), config.dump());
  }
  const Config oldest = downgrade_config(config, 0);
  EXPECT_TRUE(oldest.contains("MODEL.RPN_HEAD.NAME"));
  EXPECT_EQ(upgrade_config(oldest, 1).get_int("VERSION"), 1);
  message_of<ConfigError>([&] { downgrade_config(config, -1); });
  message_of<ConfigError>([&] { downgrade_config(config, 3); });
  message_of<ConfigError>([&] { upgrade_config(config, 1); });
  message_of<ConfigError>([&] { upgrade_config(config, 3); });
  expect_message<ConfigError>([] { downgrade_config(Config::parse("VERSION: 2\nA: 1\n"), 1); }, {"has no key"});
  expect_message<ConfigError>([] { upgrade_config(Config::parse("A: 1\n")); }, {"VERSION"});
}

TEST(Versions, TheAnchorsOfTheDetectorInUseAreKept) {
  const LogCapture log = quiet();
  const Folder folder;
  const std::string anchors = "VERSION: 1\nMODEL:\n  RPN: {ANCHOR_SIZES: [[1]]}\n  RETINANET: {ANCHOR_SIZES: [[2]]}\n";
  Config config = default_config();
  config.merge_from_file(folder.write("rcnn.yaml", anchors));
  expect_value(config.at("MODEL.ANCHOR_GENERATOR.SIZES"), List{Value(List{1})});
  config.merge_from_file(folder.write("retina.yaml", anchors + "  META_ARCHITECTURE: RetinaNet\n"));
  expect_value(config.at("MODEL.ANCHOR_GENERATOR.SIZES"), List{Value(List{2})});
}

TEST(Versions, SectionsForNewKeysStayOpen) {
  const LogCapture log = quiet();
  Config config = default_config();
  config.allow_new_keys();
  const Folder folder;
  config.merge_from_file(folder.write("a.yaml", "VERSION: 1\nMODEL: {WEIGHT: w}\n"));
  config.merge_from_file(folder.write("b.yaml", "VERSION: 2\nTEST: {AUG: {MINE: 1}}\nTOP: 2\n"));
  EXPECT_EQ(config.get_int("TEST.AUG.MINE"), 1);
  EXPECT_EQ(config.get_int("TOP"), 2);
}

/// Half to even, by its definition.
std::int64_t rounded(double number) {
  const double below = std::floor(number);
  const double rest = number - below;
  const bool up = rest > 0.5 || (rest == 0.5 && std::fmod(below, 2) != 0);
  return static_cast<std::int64_t>(below) + (up ? 1 : 0);
}

TEST(AutoScale, ByTheFormulaForManyWorldSizes) {
  const LogCapture log = quiet();
  for (const int reference : {1, 2, 8}) {
    for (int workers = 1; workers <= 16; ++workers) {
      Config config = default_config();
      config.set("SOLVER.REFERENCE_WORLD_SIZE", reference);
      config.set("SOLVER.STEPS", Tuple{1000, 2001});
      config.set("SOLVER.MAX_ITER", 4999);
      config.set("TEST.EVAL_PERIOD", 37);
      const Config scaled = auto_scale_workers(config, workers);
      const double scale = static_cast<double>(workers) / reference;
      EXPECT_EQ(scaled.get_int("SOLVER.IMS_PER_BATCH"), rounded(16 * scale));
      EXPECT_EQ(scaled.get_double("SOLVER.BASE_LR"), 0.001 * scale);
      EXPECT_EQ(scaled.get_int("SOLVER.MAX_ITER"), rounded(4999 / scale));
      EXPECT_EQ(scaled.get_int("SOLVER.WARMUP_ITERS"), rounded(1000 / scale));
      EXPECT_EQ(scaled.get_int("SOLVER.CHECKPOINT_PERIOD"), rounded(5000 / scale));
      EXPECT_EQ(scaled.get_int("TEST.EVAL_PERIOD"), rounded(37 / scale));
      expect_value(scaled.at("SOLVER.STEPS"), (Tuple{rounded(1000 / scale), rounded(2001 / scale)}));
      EXPECT_EQ(scaled.get_int("SOLVER.REFERENCE_WORLD_SIZE"), workers);
    }
  }
}

TEST(AutoScale, Refusals) {
  Config config = default_config();
  EXPECT_EQ(auto_scale_workers(config, 4).dump(), config.dump());
  message_of<ConfigError>([&] { auto_scale_workers(config, 0); });
  message_of<ConfigError>([&] { auto_scale_workers(config, -1); });
  config.set("SOLVER.REFERENCE_WORLD_SIZE", 3);
  expect_message<ConfigError>([&] { auto_scale_workers(config, 2); }, {"SOLVER.REFERENCE_WORLD_SIZE is 3", "IMS_PER_BATCH"});
  config.set("SOLVER.REFERENCE_WORLD_SIZE", 8);
  message_of<ConfigError>([&] { auto_scale_workers(config, 0); });
  message_of<ConfigError>([&] { auto_scale_workers(config, -8); });
}

}  // namespace
}  // namespace treadle

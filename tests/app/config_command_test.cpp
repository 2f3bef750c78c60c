#include <tests/support/process.hpp>
#include <tests/support/temporary_folder.hpp>
#include <tests/support/terminal.hpp>
#include <treadle/config/defaults.hpp>

#include <gtest/gtest.h>

#include <cstdlib>
#include <nlohmann/json.hpp>

namespace treadle {
namespace {

using Json = nlohmann::json;

struct ConfigCommand : testing::Test {
  TemporaryFolder folder;
  std::string base = folder / "base.yaml", child = folder / "child.yaml";

  ConfigCommand() {
    write_text(base, "SOLVER:\n  BASE_LR: 0.25\n  STEPS: (60, 80)\n  MAX_ITER: 90\nVERSION: 2\n");
    write_text(child,
               "_BASE_: base.yaml\nSOLVER:\n  MAX_ITER: 100\nMODEL:\n  PIXEL_MEAN: [1.5]\n  WEIGHTS: \"a # b\"\nVERSION: 2\n");
  }
  static std::string program() {
    const char* path = std::getenv("TREADLE_COMMAND");
    return path != nullptr ? path : "build/release/bin/treadle";
  }
  static ProcessResult config(std::vector<std::string> words) {
    words.insert(words.begin(), {program(), "config"});
    return run_process(words);
  }
  Config merged(const std::vector<std::string>& overrides = {}) const {
    Config config = default_config();
    config.merge_from_file(child);
    config.merge_from_list(std::span<const std::string>(overrides));
    return config;
  }
  Config read_back(const std::string& text) const {
    write_text(folder / "printed.yaml", text);
    Config config = default_config();
    config.merge_from_file(folder / "printed.yaml");
    return config;
  }
};

bool contains(const std::string& text, const std::string& part) { return text.find(part) != std::string::npos; }

TEST_F(ConfigCommand, PrintsTheMergedTreeAsYamlThatLoadsToTheSame) {
  const ProcessResult plain = config({"--config-file", child, "SOLVER.BASE_LR", "0.5"});
  EXPECT_EQ(plain.status, 0) << plain.err;
  const Config expected = merged({"SOLVER.BASE_LR", "0.5"});
  EXPECT_EQ(plain.out, expected.dump());
  EXPECT_TRUE(identical(Value(read_back(plain.out).to_dict()), Value(expected.to_dict())));
  const ProcessResult origins = config({"--config-file", child, "SOLVER.BASE_LR", "0.5", "--origin"});
  EXPECT_TRUE(identical(Value(read_back(origins.out).to_dict()), Value(expected.to_dict())));
  EXPECT_EQ(config({}).out, default_config().dump());
}

TEST_F(ConfigCommand, OriginsStandBehindTheValues) {
  const std::string out = config({"--config-file", child, "SEED", "7", "--origin"}).out;
  for (const std::string& line : {"\n  MAX_ITER: 100  # " + child + ":3\n", "\n  BASE_LR: 0.25  # " + base + ":2\n",
                                  "\n  STEPS:  # " + base + ":3\n  - 60\n", "\n  PIXEL_MEAN:  # " + child + ":5\n  - 1.5\n",
                                  std::string("\nSEED: 7  # command line\n"), std::string("\n  GAMMA: 0.1  # default\n"),
                                  "\n  WEIGHTS: 'a # b'  # " + child + ":6\n"}) {
    EXPECT_TRUE(contains(out, line)) << line << out;
  }
  EXPECT_FALSE(contains(config({"--config-file", child}).out, "# default"));
}

TEST_F(ConfigCommand, OverridesAreTakenAsTheyAre) {
  for (const auto& [key, value] : std::vector<std::pair<std::string, std::string>>{
           {"MODEL.PIXEL_MEAN", "[1.5, -2.5]"}, {"TEST.EXPECTED_RESULTS", "[['a', 'b', 1, 2]]"}, {"SOLVER.BASE_LR", "-0.5"}}) {
    const ProcessResult result = config({key, value, "--json"});
    Config expected = default_config();
    expected.merge_from_list(std::vector<std::string>{key, value});
    EXPECT_EQ(result.status, 0) << result.err;
    EXPECT_EQ(Json::parse(result.out)["config"], Json::parse(config({"--json", key, value}).out)["config"]);
    EXPECT_EQ(config({key, value}).out, expected.dump());
  }
}

TEST_F(ConfigCommand, JsonHoldsTheTreeAndTheOrigins) {
  const ProcessResult result = config({"--config-file", child, "--json", "--origin", "SEED", "7"});
  const Json answer = Json::parse(result.out);
  EXPECT_EQ(answer["config"]["SOLVER"]["STEPS"], Json({60, 80}));
  EXPECT_EQ(answer["config"]["SOLVER"]["BASE_LR"], 0.25);
  EXPECT_EQ(answer["config"]["SOLVER"]["WEIGHT_DECAY_BIAS"], nullptr);
  EXPECT_EQ(answer["config"]["MODEL"]["MASK_ON"], false);
  EXPECT_EQ(answer["origins"]["SOLVER.MAX_ITER"], Json({{"source", child}, {"line", 3}}));
  EXPECT_EQ(answer["origins"]["SEED"]["source"], "command line");
  EXPECT_EQ(answer["origins"].size(), default_config().keys().size());
  EXPECT_FALSE(Json::parse(config({"--json"}).out).contains("origins"));
}

TEST_F(ConfigCommand, DiffComparesTwoFiles) {
  const ProcessResult differ = config({"--diff", base, child});
  EXPECT_EQ(differ.status, 1);
  EXPECT_EQ(differ.err, "");
  EXPECT_EQ(differ.out, "MODEL.PIXEL_MEAN\n- [103.53, 116.28, 123.675]  # default\n+ [1.5]  # " + child +
                            ":5\nMODEL.WEIGHTS\n- ''  # default\n+ 'a # b'  # " + child + ":6\nSOLVER.MAX_ITER\n- 90  # " + base +
                            ":4\n+ 100  # " + child + ":3\n");
  const ProcessResult equal = config({"--diff", base, base});
  EXPECT_EQ(equal.status, 0);
  EXPECT_EQ(equal.out, "the two configs are equal\n");
  const ProcessResult over_both = config({"--diff", base, child, "SOLVER.MAX_ITER", "5"});
  EXPECT_EQ(over_both.status, 1);
  EXPECT_EQ(over_both.err, "");
  EXPECT_TRUE(contains(over_both.out, "MODEL.PIXEL_MEAN"));
  EXPECT_FALSE(contains(over_both.out, "SOLVER.MAX_ITER"));
}

TEST_F(ConfigCommand, DiffAsJson) {
  const ProcessResult result = config({"--diff", base, child, "--json"});
  EXPECT_EQ(result.status, 1);
  const Json answer = Json::parse(result.out);
  EXPECT_EQ(answer["differences"].size(), 3u);
  EXPECT_EQ(answer["differences"]["SOLVER.MAX_ITER"], Json({{"a", {{"value", 90}, {"source", base}, {"line", 4}}},
                                                            {"b", {{"value", 100}, {"source", child}, {"line", 3}}}}));
}

TEST_F(ConfigCommand, WrongUsageAndErrors) {
  EXPECT_EQ(config({"--diff", base}).status, 2);
  EXPECT_EQ(config({"--diff", base, child, "--origin"}).status, 2);
  const ProcessResult absent = config({"--config-file", folder / "absent.yaml"});
  EXPECT_EQ(absent.status, 1);
  EXPECT_TRUE(contains(absent.err, "absent.yaml"));
  const ProcessResult help = config({"--help"});
  EXPECT_EQ(help.status, 0);
  EXPECT_TRUE(contains(help.out, "Example:"));
  EXPECT_TRUE(contains(help.out, "Exit status:"));
}

TEST_F(ConfigCommand, ColourOnATerminalAloneAndNeverWithNoColor) {
  const std::vector<std::string> words = {program(), "config", "--config-file", child, "--origin"};
  const std::vector<std::string> diff = {program(), "config", "--diff", base, child};
  const auto on_terminal = [](const std::vector<std::string>& command, const std::string& no_color) {
    return run_on_terminal(command, {{"NO_COLOR", no_color}}).out;
  };
  EXPECT_TRUE(contains(on_terminal(words, ""), "\033[2m# " + child + ":3\033[0m"));
  EXPECT_FALSE(contains(on_terminal(words, "1"), "\033["));
  EXPECT_TRUE(contains(on_terminal(diff, ""), "\033[31m- 90"));
  EXPECT_FALSE(contains(on_terminal(diff, "1"), "\033["));
  EXPECT_FALSE(contains(config({"--config-file", child, "--origin"}).out, "\033["));
}

}  // namespace
}  // namespace treadle

#include <treadle/base/errors.hpp>
#include <treadle/defaults/default_argument_parser.hpp>

#include <gtest/gtest.h>
#include <CLI/CLI.hpp>

#include <algorithm>

namespace treadle {
namespace {

DefaultArguments parsed(std::vector<std::string> words, std::string* own = nullptr) {
  DefaultArguments arguments;
  const auto parser = default_argument_parser(arguments);
  if (own != nullptr) parser->add_option("--own", *own);
  std::ranges::reverse(words);
  parser->parse(words);
  return arguments;
}

TEST(DefaultArgumentParser, HasDetectron2sOptionsAndDefaults) {
  const DefaultArguments none = parsed({});
  EXPECT_EQ(none.config_file, "");
  EXPECT_FALSE(none.resume);
  EXPECT_FALSE(none.eval_only);
  EXPECT_EQ(none.num_gpus, 1);
  EXPECT_EQ(none.num_machines, 1);
  EXPECT_EQ(none.machine_rank, 0);
  EXPECT_EQ(none.dist_url, "auto");
  EXPECT_EQ(none.max_restarts, 0);
  EXPECT_EQ(none.dist_timeout, 1800);
  EXPECT_FALSE(none.check_order);
  EXPECT_TRUE(none.overrides.empty());
  const DefaultArguments all = parsed({"--config-file",  "a.yaml",
                                       "--resume",       "--eval-only",
                                       "--num-gpus",     "8",
                                       "--num-machines", "2",
                                       "--machine-rank", "1",
                                       "--dist-url",     "tcp://host:1234",
                                       "--max-restarts", "3",
                                       "--dist-timeout", "2.5",
                                       "--check-order",  "SOLVER.BASE_LR",
                                       "-0.5",           "MODEL.PIXEL_MEAN",
                                       "[1.0, 2.0]"});
  EXPECT_EQ(all.config_file, "a.yaml");
  EXPECT_TRUE(all.resume);
  EXPECT_TRUE(all.eval_only);
  EXPECT_EQ(all.num_gpus, 8);
  EXPECT_EQ(all.num_machines, 2);
  EXPECT_EQ(all.machine_rank, 1);
  EXPECT_EQ(all.dist_url, "tcp://host:1234");
  EXPECT_EQ(all.max_restarts, 3);
  EXPECT_EQ(all.dist_timeout, 2.5);
  EXPECT_TRUE(all.check_order);
  EXPECT_EQ(all.overrides, (std::vector<std::string>{"SOLVER.BASE_LR", "-0.5", "MODEL.PIXEL_MEAN", "[1.0, 2.0]"}));
}

TEST(DefaultArgumentParser, GpusAreProcesses) { EXPECT_EQ(parsed({"--num-processes", "4"}).num_gpus, 4); }

TEST(DefaultArgumentParser, ACommandTakesAllOrThoseOfProcesses) {
  DefaultArguments arguments;
  CLI::App all, launch;
  add_default_arguments(all, arguments);
  add_launch_arguments(launch, arguments);
  all.parse("--resume --num-gpus 2 SEED 3");
  EXPECT_TRUE(arguments.resume);
  EXPECT_EQ(arguments.num_gpus, 2);
  EXPECT_EQ(arguments.overrides, (std::vector<std::string>{"SEED", "3"}));
  launch.parse("--num-gpus 5");
  EXPECT_EQ(arguments.num_gpus, 5);
  EXPECT_THROW(launch.parse("--resume"), CLI::ParseError);
}

TEST(DefaultArgumentParser, AProgramAddsItsOwn) {
  std::string own;
  EXPECT_EQ(parsed({"SEED", "1", "--own", "x"}, &own).overrides.size(), 2u);
  EXPECT_EQ(own, "x");
  DefaultArguments arguments;
  EXPECT_NE(default_argument_parser(arguments)->help().find("--num-gpus"), std::string::npos);
  EXPECT_NE(default_argument_parser(arguments, "my own words")->help().find("my own words"), std::string::npos);
}

TEST(DefaultArgumentParser, WrongUsageThrows) {
  EXPECT_THROW(parsed({"--no-such-option"}), CLI::ParseError);
  EXPECT_THROW(parsed({"--num-gpus", "-1"}), CLI::ParseError);
  EXPECT_THROW(parsed({"--num-machines", "0"}), CLI::ParseError);
  EXPECT_THROW(parsed({"--machine-rank", "first"}), CLI::ParseError);
  EXPECT_THROW(parsed({"--max-restarts", "-1"}), CLI::ParseError);
  EXPECT_THROW(parsed({"--dist-timeout", "0"}), CLI::ParseError);
}

TEST(DefaultArgumentParser, TheConfigIsDefaultsFileOverrides) {
  EXPECT_EQ(read_config(parsed({"SEED", "7"})).get_int("SEED"), 7);
  EXPECT_THROW(read_config(parsed({"SEED"})), ConfigError);
  EXPECT_THROW(read_config(parsed({"--config-file", "/nowhere/a.yaml"})), IoError);
}

}  // namespace
}  // namespace treadle

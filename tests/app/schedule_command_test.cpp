#include <tests/app/command.hpp>
#include <tests/support/source_folder.hpp>
#include <tests/support/terminal.hpp>
#include <treadle/config/defaults.hpp>
#include <treadle/defaults/options.hpp>

#include <gtest/gtest.h>
#include <torch/nn/modules/linear.h>
#include <torch/optim/sgd.h>
#include <nlohmann/json.hpp>

#include <algorithm>
#include <array>
#include <cmath>
#include <numbers>
#include <span>
#include <sstream>

namespace treadle {
namespace {

namespace fs = std::filesystem;
using Words = std::vector<std::string>;

bool contains(const std::string& text, const std::string& part) { return text.find(part) != std::string::npos; }

/// What a drawing depends on, whatever the tests were started with.
const std::map<std::string, std::string> kEnvironment = {{"COLUMNS", ""}, {"LC_ALL", "C.UTF-8"}};

Words words(const Words& rest) {
  Words all = {Command::program(), "schedule"};
  all.insert(all.end(), rest.begin(), rest.end());
  return all;
}

ProcessResult schedule(const Words& rest, std::map<std::string, std::string> environment = {}) {
  environment.insert(kEnvironment.begin(), kEnvironment.end());
  return run_process(words(rest), environment);
}

/// The rates that `--csv` prints, after a look at its form: one line per iteration and no other.
std::vector<double> csv(const Words& settings) {
  Words arguments = {"--csv"};
  arguments.insert(arguments.end(), settings.begin(), settings.end());
  const ProcessResult result = schedule(arguments);
  EXPECT_EQ(result.status, 0) << result.err;
  std::vector<double> rates;
  for (const std::string& line : lines_of(result.out)) {
    const std::string head = std::to_string(rates.size()) + ",";
    EXPECT_TRUE(line.starts_with(head)) << line;
    char* end = nullptr;
    rates.push_back(std::strtod(line.c_str() + head.size(), &end));
    EXPECT_EQ(*end, '\0') << line;
  }
  return rates;
}

std::size_t columns(const std::string& utf8) {
  return static_cast<std::size_t>(std::count_if(utf8.begin(), utf8.end(), [](char c) { return (c & 0xC0) != 0x80; }));
}

/// The rows of the table: iteration, progress, factor, rate.
std::vector<std::array<double, 4>> table(const std::string& out) {
  std::vector<std::array<double, 4>> rows;
  bool inside = false;
  for (const std::string& line : lines_of(out)) {
    if (inside && line.empty()) break;
    std::array<double, 4> row{};
    std::istringstream numbers(line);
    if (inside && numbers >> row[0] >> row[1] >> row[2] >> row[3]) rows.push_back(row);
    if (line.starts_with("iteration")) inside = true;
  }
  return rows;
}

/// What an optimizer of this config gets before each of its steps.
std::vector<double> rates_of_a_run(const Words& settings) {
  Config config = default_config();
  config.merge_from_list(std::span<const std::string>(settings));
  torch::nn::Linear module(1, 1);
  torch::optim::SGD optimizer(module->parameters(), config.get_double("SOLVER.BASE_LR"));
  const auto scheduler = build_lr_scheduler(lr_scheduler_options(config), optimizer);
  std::vector<double> rates;
  for (std::int64_t i = 0; i < config.get_int("SOLVER.MAX_ITER"); ++i) {
    rates.push_back(optimizer.param_groups().front().options().get_lr());
    scheduler->step();
  }
  return rates;
}

TEST(ScheduleCommand, CsvHoldsWhatAnOptimizerGets) {
  const Words rest[] = {
      {},
      {"SOLVER.STEPS", "(100, 250)", "SOLVER.GAMMA", "0.3"},
      {"SOLVER.STEPS", "(100, 250)", "SOLVER.RESCALE_INTERVAL", "True"},
      {"SOLVER.WARMUP_METHOD", "constant", "SOLVER.WARMUP_FACTOR", "0.07"},
      {"SOLVER.LR_SCHEDULER_NAME", "WarmupCosineLR", "SOLVER.BASE_LR_END", "0.001"},
      {"SOLVER.LR_SCHEDULER_NAME", "WarmupStepWithFixedGammaLR", "SOLVER.NUM_DECAYS", "5", "SOLVER.RESCALE_INTERVAL", "True"},
  };
  for (const Words& settings : rest) {
    Words all = {"SOLVER.MAX_ITER", "317", "SOLVER.WARMUP_ITERS", "23", "SOLVER.BASE_LR", "0.013", "SOLVER.STEPS", "(200,)"};
    all.insert(all.end(), settings.begin(), settings.end());
    const std::vector<double> rates = csv(all);
    EXPECT_EQ(rates.size(), 317u);
    EXPECT_EQ(rates, rates_of_a_run(all)) << testing::PrintToString(settings);
  }
}

TEST(ScheduleCommand, CsvHoldsTheFormulas) {
  const std::vector<double> cosine = csv({"SOLVER.LR_SCHEDULER_NAME", "WarmupCosineLR", "SOLVER.MAX_ITER", "2580",
                                          "SOLVER.WARMUP_ITERS", "0", "SOLVER.BASE_LR", "0.1"});
  ASSERT_EQ(cosine.size(), 2580u);
  for (std::size_t i = 0; i < cosine.size(); ++i)
    EXPECT_EQ(cosine[i], 0.1 * (0.5 * (1 + std::cos(std::numbers::pi * (static_cast<double>(i) / 2580.0)))));

  const std::vector<double> steps = csv({});  // Detectron2's defaults: 40000 iterations, 1000 of warm-up, a decay at 30000
  ASSERT_EQ(steps.size(), 40000u);
  for (const std::size_t i : {1000, 20000, 29999}) EXPECT_EQ(steps[i], 0.001);
  for (const std::size_t i : {30000, 39999}) EXPECT_EQ(steps[i], 0.001 * 0.1);
  EXPECT_EQ(steps[0], 0.001 * 0.001);
  EXPECT_NEAR(steps[500], 0.001 * (0.001 * 0.5 + 0.5), 1e-18);
}

TEST(ScheduleCommand, CsvHoldsWhatTrainRecords) {
  const Command command;
  ASSERT_EQ(command.train().status, 0);
  const std::vector<double> rates = csv({"--config-file", command.config});
  ASSERT_EQ(rates.size(), 30u);
  std::size_t compared = 0;
  for (const std::string& line : lines_of(read_text(command.output + "/metrics.json"))) {
    const auto object = nlohmann::json::parse(line);
    if (!object.contains("lr")) continue;
    EXPECT_EQ(object.at("lr").get<double>(), rates.at(object.at("iteration").get<std::size_t>()));
    ++compared;
  }
  EXPECT_GE(compared, 2u);
}

TEST(ScheduleCommand, ShowsTableAndCurveAndWritesNothing) {
  const Command command;
  const ProcessResult result = schedule({"--config-file", command.config});
  ASSERT_EQ(result.status, 0) << result.err;
  EXPECT_EQ(result.err, "");
  EXPECT_TRUE(result.out.starts_with("WarmupCosineLR, 30 iterations\n")) << result.out;
  EXPECT_TRUE(contains(result.out, "iteration  progress      factor  learning rate\n"));
  EXPECT_TRUE(contains(result.out, "warm-up is over"));
  EXPECT_TRUE(contains(result.out, "\nlearning rate\n"));
  EXPECT_TRUE(contains(result.out, "⠉"));
  EXPECT_FALSE(contains(result.out, "\033"));
  for (const std::string& line : lines_of(result.out)) EXPECT_LE(columns(line), 80u) << line;
  EXPECT_FALSE(fs::exists(command.output));

  const std::vector<double> rates = csv({"--config-file", command.config});
  const auto rows = table(result.out);
  std::vector<int> iterations;
  for (const auto& [iteration, progress, factor, rate] : rows) {
    iterations.push_back(static_cast<int>(iteration));
    EXPECT_NEAR(progress, iteration / 30, 5e-7);
    EXPECT_NEAR(rate, rates.at(static_cast<std::size_t>(iteration)), 6e-5 * rate);
    EXPECT_NEAR(factor * 0.05, rate, 1.2e-4 * rate);
  }
  EXPECT_EQ(iterations, (std::vector<int>{0, 3, 5, 6, 9, 12, 15, 18, 21, 24, 27, 29}));
}

TEST(ScheduleCommand, RowsSaysHowManyAreEvenlySpaced) {
  const auto iterations = [](const Words& arguments) {
    std::vector<int> found;
    for (const auto& row : table(schedule(arguments).out)) found.push_back(static_cast<int>(row[0]));
    return found;
  };
  EXPECT_EQ(iterations({"--rows", "3"}), (std::vector<int>{0, 1000, 20000, 29999, 30000, 39999}));
  EXPECT_EQ(iterations({"--rows", "1"}), (std::vector<int>{0, 1000, 29999, 30000, 39999}));
  EXPECT_EQ(iterations({"--rows", "100", "SOLVER.MAX_ITER", "4", "SOLVER.WARMUP_ITERS", "0", "SOLVER.STEPS", "()"}),
            (std::vector<int>{0, 1, 2, 3}));
}

TEST(ScheduleCommand, TheWidthIsThatOfTheTerminalOrOfColumns) {
  for (const std::size_t width : {20u, 40u, 57u, 200u}) {
    const ProcessResult result = schedule({}, {{"COLUMNS", std::to_string(width)}});
    ASSERT_EQ(result.status, 0);
    std::size_t widest = 0;
    const std::string curve = result.out.substr(result.out.find("\n\n", result.out.find("\n\n") + 2));
    for (const std::string& line : lines_of(width < 40 ? curve : result.out)) widest = std::max(widest, columns(line));
    EXPECT_EQ(widest, width);
  }
  for (const char* nonsense : {"0", "-5", "wide", "70x", "99999999999999"}) {
    EXPECT_EQ(schedule({}, {{"COLUMNS", nonsense}}).out, schedule({}).out) << nonsense;
  }
}

TEST(ScheduleCommand, FillsTheTerminal) {
  for (const unsigned short width : {50, 133}) {
    ProcessResult result = run_on_terminal(words({}), kEnvironment, width);
    EXPECT_EQ(result.status, 0) << result.out;
    std::erase(result.out, '\r');
    EXPECT_EQ(result.out, schedule({}, {{"COLUMNS", std::to_string(width)}}).out);
  }
}

TEST(ScheduleCommand, PlainTextWhereTheLocaleIsNotUtf8) {
  const auto is_ascii = [](const std::string& text) {
    return std::all_of(text.begin(), text.end(), [](char c) { return c > 0; });
  };
  const ProcessResult plain = schedule({}, {{"LC_ALL", "C"}});
  EXPECT_TRUE(is_ascii(plain.out)) << plain.out;
  EXPECT_TRUE(contains(plain.out, "**"));
  EXPECT_FALSE(is_ascii(schedule({}, {{"LC_ALL", "de_DE.utf8"}}).out));
  EXPECT_FALSE(is_ascii(schedule({}, {{"LC_ALL", ""}, {"LC_CTYPE", ""}, {"LANG", "en_US.UTF-8"}}).out));
  EXPECT_TRUE(is_ascii(schedule({}, {{"LC_ALL", ""}, {"LC_CTYPE", "C"}, {"LANG", "en_US.UTF-8"}}).out));
  EXPECT_TRUE(is_ascii(schedule({}, {{"LC_ALL", ""}, {"LC_CTYPE", ""}, {"LANG", ""}}).out));
}

TEST(ScheduleCommand, StepsBehindTheEndGiveTheWarningOfTraining) {
  const Command command;
  const Words settings = {"SOLVER.LR_SCHEDULER_NAME", "WarmupMultiStepLR", "SOLVER.STEPS", "(10, 30)"};
  const auto warning = [](const std::string& out) {
    const std::size_t begin = out.find("WARNING: steps");
    return begin == std::string::npos ? "" : out.substr(begin, out.find('\n', begin) - begin);
  };
  const std::string of_training = warning(command.train(settings).out);
  EXPECT_TRUE(contains(of_training, "10, 30")) << of_training;
  Words arguments = {"--config-file", command.config};
  arguments.insert(arguments.end(), settings.begin(), settings.end());
  EXPECT_EQ(warning(schedule(arguments).out), of_training);

  arguments.insert(arguments.begin(), "--csv");
  const ProcessResult numbers = schedule(arguments);
  EXPECT_EQ(lines_of(numbers.out).size(), 30u);
  EXPECT_EQ("WARNING: " + numbers.err, of_training.substr(0, 9) + "treadle: warning: " + of_training.substr(9) + "\n");
}

TEST(ScheduleCommand, BadInputGetsTheErrorOfTraining) {
  const Command command;
  const Words bad[] = {{"SOLVER.BASE_RL", "0.1"},    {"SOLVER.BASE_LR"},       {"SOLVER.BASE_LR", "fast"},
                       {"SOLVER.BASE_LR", "-1.0"},   {"SOLVER.MAX_ITER", "0"}, {"SOLVER.WARMUP_ITERS", "31"},
                       {"SOLVER.STEPS", "(20, 10)"}, {"SOLVER.GAMMA", "0.0"},  {"SOLVER.LR_SCHEDULER_NAME", "WarmupCosine"}};
  for (const Words& settings : bad) {
    Words arguments = {"--config-file", command.config};
    arguments.insert(arguments.end(), settings.begin(), settings.end());
    const ProcessResult result = schedule(arguments);
    EXPECT_EQ(result.status, 1) << result.out;
    EXPECT_EQ(result.out, "");
    EXPECT_EQ(lines_of(result.err).size(), 1u);
    EXPECT_TRUE(contains(result.err, settings[0])) << result.err;
    EXPECT_EQ(result.err, command.train(settings).err);
  }
  const Words absent = {"--config-file", command.folder / "absent.yaml"};
  EXPECT_EQ(schedule(absent).status, 1);
  EXPECT_EQ(schedule(absent).err, run_process({Command::program(), "train", absent[0], absent[1]}).err);
}

TEST(ScheduleCommand, WrongUse) {
  const ProcessResult none = schedule({"--rows", "0"});
  EXPECT_EQ(none.status, 2);
  EXPECT_EQ(none.err, "treadle: error: --rows is 0: at least 1 is needed\n");
  for (const Words& arguments : {Words{"--rows", "many"}, Words{"--rows", "3", "--csv"}, Words{"--resume"}}) {
    const ProcessResult result = schedule(arguments);
    EXPECT_EQ(result.status, 2) << testing::PrintToString(arguments) << result.out;
    EXPECT_EQ(lines_of(result.err).size(), 1u);
  }
  const ProcessResult full = run_process({"/bin/sh", "-c", Command::program() + " schedule --csv > /dev/full"});
  EXPECT_EQ(full.status, 1);
  EXPECT_TRUE(contains(full.err, "stdout")) << full.err;
  EXPECT_EQ(lines_of(full.err).size(), 1u);
}

TEST(ScheduleCommand, SaysWhatTheRatesDoNotShow) {
  EXPECT_FALSE(contains(schedule({}).out, "SOLVER."));
  EXPECT_TRUE(contains(schedule({"SOLVER.BIAS_LR_FACTOR", "2.0"}).out, "Biases get 2 times these rates"));
  EXPECT_TRUE(contains(schedule({"SOLVER.REFERENCE_WORLD_SIZE", "8"}).out, "for 8 processes"));
}

TEST(ScheduleCommand, IsInTheHelp) {
  EXPECT_TRUE(contains(run_process({Command::program(), "--help"}).out, "schedule"));
  const ProcessResult help = schedule({"--help"});
  EXPECT_EQ(help.status, 0);
  for (const char* part : {"--config-file", "--rows", "--csv", "KEY VALUE", "Example:", "COLUMNS"})
    EXPECT_TRUE(contains(help.out, part));
}

TEST(ScheduleCommand, PrintsWhatTheReadmeShows) {
  const fs::path root = source_folder();
  const ProcessResult result = schedule({"--config-file", root / "configs/fashion_mnist_cnn.yaml", "--rows", "6"});
  EXPECT_TRUE(contains(read_text(root / "README.md"), result.out)) << result.out;
}

TEST(ScheduleCommand, EpochsAreThoseOfTheTrainer) {
  const Command command;  // 256 samples
  const Words epochs = {"--config-file",        command.config, "TREADLE.SOLVER.MAX_EPOCHS",       "2.5",
                        "SOLVER.IMS_PER_BATCH", "24",           "TREADLE.SOLVER.BATCHES_PER_STEP", "2"};
  EXPECT_EQ(csv(epochs).size(), 14u) << "640 / 48 is 13.3";
  Words table = epochs;
  table.insert(table.end(), {"SOLVER.IMS_PER_BATCH", "16"});
  const ProcessResult shown = schedule(table);
  EXPECT_TRUE(contains(shown.out, "WarmupCosineLR, 20 iterations (2.5 epochs)")) << shown.out << shown.err;
  Words train(epochs.begin() + 2, epochs.end());
  const ProcessResult trained = command.train(train);
  ASSERT_EQ(trained.status, 0) << trained.err;
  EXPECT_TRUE(contains(trained.out, "Trained 14 iterations")) << trained.out;
  // Without data there is no number of iterations to show.
  fs::remove(command.folder / "train-labels-idx1-ubyte.gz");
  const ProcessResult none = schedule(epochs);
  EXPECT_EQ(none.status, 1);
  EXPECT_TRUE(contains(none.err, "train-labels-idx1-ubyte.gz")) << none.err;
}

}  // namespace
}  // namespace treadle

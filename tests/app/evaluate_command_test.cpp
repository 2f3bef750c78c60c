#include <tests/app/command.hpp>

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

namespace treadle {
namespace {

namespace fs = std::filesystem;

bool contains(const std::string& text, const std::string& part) { return text.find(part) != std::string::npos; }

struct EvaluateCommand : testing::Test {
  Command command;
  std::string weights = command.output + "/model_final.pth";
  void SetUp() override { ASSERT_EQ(command.train({"SOLVER.MAX_ITER", "12"}).status, 0); }

  ProcessResult evaluate(std::vector<std::string> rest) const {
    std::vector<std::string> words = {Command::program(), "evaluate", "--config-file", command.config};
    words.insert(words.end(), rest.begin(), rest.end());
    return run_process(words);
  }
};

TEST_F(EvaluateCommand, DoesWhatEvalOnlyDoes) {
  const auto table = [](const std::string& out) { return out.substr(out.find("+--")); };
  const std::string config = read_text(command.output + "/config.yaml");
  const ProcessResult own = evaluate({"MODEL.WEIGHTS", weights});
  const ProcessResult flag = command.train({"--eval-only", "MODEL.WEIGHTS", weights});
  EXPECT_EQ(own.status, 0) << own.err;
  EXPECT_EQ(flag.status, 0) << flag.err;
  EXPECT_EQ(table(own.out), table(flag.out));
  EXPECT_TRUE(contains(own.out, "classification/accuracy")) << own.out;
  EXPECT_EQ(table(evaluate({"--resume"}).out), table(own.out));
  EXPECT_EQ(read_text(command.output + "/config.yaml"), config);
}

TEST_F(EvaluateCommand, JsonIsAllOfStdout) {
  const ProcessResult result = evaluate({"--json", "MODEL.WEIGHTS", weights});
  EXPECT_EQ(result.status, 0) << result.err;
  EXPECT_EQ(result.err, "");
  const auto answer = nlohmann::json::parse(result.out);
  EXPECT_EQ(answer["classification"]["num_samples"], 64);
  EXPECT_GT(answer["classification"]["accuracy"].get<double>(), 0);
}

TEST_F(EvaluateCommand, ResultsAreVerified) {
  const ProcessResult good =
      evaluate({"MODEL.WEIGHTS", weights, "TEST.EXPECTED_RESULTS", "[['classification','accuracy',50,50]]"});
  EXPECT_EQ(good.status, 0) << good.err;
  const ProcessResult bad =
      evaluate({"MODEL.WEIGHTS", weights, "TEST.EXPECTED_RESULTS",
                "[['classification','accuracy',50,50],['classification','num_samples',63,0.5],['boxes','AP',1,1]]"});
  EXPECT_EQ(bad.status, 1);
  EXPECT_TRUE(contains(bad.err, "classification/num_samples is 64, expected 63")) << bad.err;
  EXPECT_TRUE(contains(bad.err, "boxes/AP is missing")) << bad.err;
  EXPECT_FALSE(contains(bad.err, "classification/accuracy")) << bad.err;
}

TEST_F(EvaluateCommand, WhatIsMissingIsSaid) {
  const ProcessResult none = evaluate({});
  EXPECT_EQ(none.status, 1);
  EXPECT_TRUE(contains(none.err, "MODEL.WEIGHTS")) << none.err;
  EXPECT_EQ(evaluate({"--nothing"}).status, 2);
  EXPECT_EQ(evaluate({"MODEL.WEIGHTS", weights, "DATASETS.TEST", "()"}).status, 1);
  EXPECT_TRUE(contains(run_process({Command::program(), "evaluate", "--help"}).out, "Example:"));
}

}  // namespace
}  // namespace treadle

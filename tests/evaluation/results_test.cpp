#include <treadle/base/errors.hpp>
#include <treadle/base/log.hpp>
#include <treadle/evaluation.hpp>

#include <gtest/gtest.h>

#include <limits>

namespace treadle {
namespace {

const Dict kResults{{"bbox", Dict{{"AP", 41.5}, {"AP-person", 55.0}}},
                    {"classification", Dict{{"accuracy", 91.25}, {"num_samples", 10000}}}};

TEST(Results, FlattenJoinsNamesInOrder) {
  const std::vector<std::pair<std::string, double>> expected = {
      {"bbox/AP", 41.5}, {"bbox/AP-person", 55}, {"classification/accuracy", 91.25}, {"classification/num_samples", 10000}};
  EXPECT_EQ(flatten_results_dict(kResults), expected);
  EXPECT_EQ(flatten_results_dict({{"a", 1}}), (std::vector<std::pair<std::string, double>>{{"a", 1}}));
  EXPECT_TRUE(flatten_results_dict({}).empty());
}

TEST(Results, WhatIsNoNumberIsNamed) {
  try {
    flatten_results_dict({{"bbox", Dict{{"AP", "high"}}}});
    FAIL();
  } catch (const FormatError& error) {
    EXPECT_NE(std::string(error.what()).find("\"bbox/AP\""), std::string::npos);
  }
}

TEST(Results, CsvFormatIsDetectron2s) {
  std::vector<std::string> lines;
  LogCapture capture([&](LogLevel, std::string_view line) { lines.emplace_back(line); });
  print_csv_format(kResults);
  EXPECT_EQ(lines, (std::vector<std::string>{"copypaste: Task: bbox", "copypaste: AP", "copypaste: 41.5000",
                                             "copypaste: Task: classification", "copypaste: accuracy,num_samples",
                                             "copypaste: 91.2500,10000.0000"}));
}

TEST(Results, ExpectedResultsAreVerified) {
  std::vector<std::string> lines;
  LogCapture capture([&](LogLevel, std::string_view line) { lines.emplace_back(line); });
  verify_results({}, kResults);
  EXPECT_TRUE(lines.empty());
  verify_results({{"bbox", "AP", 41, 0.5}, {"classification", "num_samples", 10000, 0}}, kResults);
  EXPECT_EQ(lines, (std::vector<std::string>{"Results verification passed."}));
  verify_results({{"coco/bbox", "AP", 41, 0.5}}, {{"coco", kResults}, {"lvis", kResults}});
  EXPECT_THROW(verify_results({{"bbox", "AP", 41, 0.25}}, kResults), Error);
  EXPECT_THROW(verify_results({{"bbox", "AP", 42, 0.25}}, kResults), Error);
  EXPECT_THROW(verify_results({{"segm", "AP", 42, 0.25}}, kResults), Error);
  const double nan = std::numeric_limits<double>::quiet_NaN();
  EXPECT_THROW(verify_results({{"bbox", "AP", 42, 1}}, {{"bbox", Dict{{"AP", nan}}}}), Error);
}

TEST(Results, TableIsAligned) {
  EXPECT_EQ(format_results_table({{"classification", Dict{{"accuracy", 91.25}, {"num_samples", 10000}}}}),
            "+----------------------------+--------------+\n"
            "| metric                     |        value |\n"
            "+----------------------------+--------------+\n"
            "| classification/accuracy    |      91.2500 |\n"
            "| classification/num_samples |        10000 |\n"
            "+----------------------------+--------------+");
  EXPECT_EQ(format_results_table({}), "");
}

}  // namespace
}  // namespace treadle

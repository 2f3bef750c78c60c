#include <treadle/base/errors.hpp>
#include <treadle/data/csv_dataset.hpp>
#include <treadle/data/data_loader.hpp>

#include <ATen/ops/equal.h>
#include <ATen/ops/tensor.h>
#include <gtest/gtest.h>

#include "tests/support/temporary_folder.hpp"

namespace treadle {
namespace {

class Csv : public testing::Test {
 protected:
  CsvOptions table(const std::string& text) {
    write_text(file_, text);
    return {.file = file_};
  }
  /// What is wrong with a table, without the folder.
  std::string complaint(const CsvOptions& options) {
    try {
      CsvDataset dataset(options);
    } catch (const Error& error) {
      const auto* format = dynamic_cast<const FormatError*>(&error);
      EXPECT_EQ(format ? format->file() : options.file, options.file);
      const std::string what = error.what();
      const std::size_t folder = what.find(folder_.path().string());
      return folder == std::string::npos ? what : what.substr(folder + folder_.path().string().size() + 1);
    }
    return "none";
  }

  TemporaryFolder folder_;
  std::string file_ = folder_ / "t.csv";
  Rng rng_;
};

bool holds(const Value& value, std::vector<float> numbers) {
  return at::equal(value.as_tensor(), at::tensor(numbers, at::kFloat));
}

TEST_F(Csv, FeaturesAndTargetsByName) {
  CsvOptions options = table(
      "\xef\xbb\xbf"
      "a, price ,\"b\",area\r\n1,2.5,-3e2,4\r\n\n +5 ,6,\"7\",.5\n");
  const CsvDataset plain(options);
  EXPECT_EQ(plain.features(), (std::vector<std::string>{"a", "price", "b", "area"}));
  ASSERT_EQ(plain.size(), 2);
  EXPECT_TRUE(holds(plain.get(0, rng_).at("x"), {1, 2.5, -300, 4}));
  EXPECT_FALSE(plain.get(0, rng_).contains("y"));
  EXPECT_EQ(plain.label(0), std::nullopt);

  options.targets = {"area", "price"};
  const CsvDataset with_targets(options);
  const Sample second = with_targets.get(1, rng_);
  EXPECT_TRUE(holds(second.at("x"), {5, 7}));
  EXPECT_TRUE(holds(second.at("y"), {0.5, 6}));
  const std::vector<Sample> samples = {second, with_targets.get(0, rng_)};
  EXPECT_TRUE(identical(with_targets.get_batch(std::vector<std::int64_t>{1, 0}).value(), collate(samples)));
}

TEST_F(Csv, ClassesAreLabels) {
  CsvOptions options = table("1;0\n2;2\n");
  options.delimiter = ';';
  options.header = false;
  options.targets = {"1"};
  options.num_classes = 3;
  const CsvDataset dataset(options);
  EXPECT_EQ(dataset.get(1, rng_).at("label").as_int(), 2);
  EXPECT_EQ(dataset.label(1), 2);
  const std::vector<Sample> samples = {dataset.get(1, rng_), dataset.get(0, rng_)};
  EXPECT_TRUE(identical(dataset.get_batch(std::vector<std::int64_t>{1, 0}).value(), collate(samples)));
  options.num_classes = 2;
  EXPECT_EQ(complaint(options), "t.csv:2: column \"1\": expected a class, an integer in [0, 2), found 2");
}

TEST_F(Csv, ErrorsSayFileAndLine) {
  EXPECT_EQ(complaint(table("a,b\n1,2\n\n3,x1\n")), "t.csv:4: column \"b\": expected a finite number, found \"x1\"");
  for (const char* cell : {"", "nan", "inf", "1e999", "1 2", "0x1", "--1", "1,5"})
    EXPECT_NE(complaint(table(std::string("a,b\n1,") + cell + "\n")), "none") << cell;
  EXPECT_EQ(complaint(table("a,b\n1,2\n3\n")), "t.csv:3: expected 2 cells as in the first line, found 1");
  EXPECT_EQ(complaint(table("a,a\n1,2\n")), "t.csv:1: two columns are called \"a\"");
  EXPECT_EQ(complaint(table("a,b\n")), "t.csv:1: the table has no sample");
  EXPECT_EQ(complaint(table("")), "t.csv:1: the table has no sample");
  CsvOptions half = table("a,c\n1,0.5\n");
  half.targets = {"c"};
  half.num_classes = 2;
  EXPECT_EQ(complaint(half), "t.csv:2: column \"c\": expected a class, an integer in [0, 2), found 0.5");
  half.targets = {"cc"};
  EXPECT_NE(complaint(half).find("did you mean \"c\""), std::string::npos);
  half.num_classes = 0;
  half.targets = {"a", "c"};
  EXPECT_NE(complaint(half).find("leaves no column"), std::string::npos);
  EXPECT_THROW(CsvDataset({.file = folder_ / "absent.csv"}), IoError);
}

TEST_F(Csv, ValidatesItsOptions) {
  const auto key = [](CsvOptions options) -> std::string {
    try {
      validate(options);
    } catch (const ConfigError& error) {
      return error.key();
    }
    return "none";
  };
  EXPECT_EQ(key({}), "CsvOptions.file");
  EXPECT_EQ(key({.file = "f", .delimiter = '-'}), "CsvOptions.delimiter");
  EXPECT_EQ(key({.file = "f", .num_classes = -1}), "CsvOptions.num_classes");
  EXPECT_EQ(key({.file = "f", .num_classes = 2}), "CsvOptions.targets");
  EXPECT_EQ(key({.file = "f"}), "none");
}

}  // namespace
}  // namespace treadle

#include <app/data_report.hpp>
#include <tests/app/command.hpp>
#include <treadle/data/training_samplers.hpp>
#include <treadle/image/image.hpp>

#include <ATen/ops/arange.h>
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

namespace treadle {
namespace {

using Json = nlohmann::json;
using Words = std::vector<std::string>;

ProcessResult data_command(const Words& rest) {
  Words all = {Command::program(), "data"};
  all.insert(all.end(), rest.begin(), rest.end());
  return run_process(all);
}

bool contains(const std::string& text, const std::string& part) { return text.find(part) != std::string::npos; }

TEST(DataCommand, CountsClassesAndSizes) {
  const Command command;  // sample i of 256 and of 64 has class i mod 10
  const ProcessResult result = data_command({"--config-file", command.config, "--json"});
  ASSERT_EQ(result.status, 0) << result.err;
  const Json found = Json::parse(result.out);
  EXPECT_FALSE(found.contains("bench"));
  for (const auto& [key, total] : {std::pair("DATASETS.TRAIN", 256), std::pair("DATASETS.TEST", 64)}) {
    const Json& set = found.at(key).at(0);
    EXPECT_EQ(set.at("samples"), total);
    ASSERT_EQ(set.at("classes").size(), 10u);
    for (int label = 0; label < 10; ++label) {
      const Json& item = set.at("classes").at(static_cast<std::size_t>(label));
      EXPECT_EQ(item.at("label"), label);
      EXPECT_EQ(item.at("samples"), total / 10 + (label < total % 10 ? 1 : 0));
    }
    EXPECT_EQ(set.at("classes").at(9).at("name"), "Ankle boot");
    EXPECT_EQ(set.at("image_sizes"), Json::parse("[{\"height\": 28, \"width\": 28, \"images\": " + std::to_string(total) + "}]"));
  }
  const ProcessResult text = data_command({"--config-file", command.config});
  ASSERT_EQ(text.status, 0);
  EXPECT_TRUE(text.out.starts_with("fashion_mnist_train: 256 samples (DATASETS.TRAIN)\n")) << text.out;
  EXPECT_TRUE(contains(text.out, "    9  Ankle boot          25    9.8 %\n")) << text.out;
  EXPECT_TRUE(contains(text.out, "256 images of 28 x 28 (height x width)\n"));
  EXPECT_FALSE(contains(text.out, "images/s"));
  EXPECT_FALSE(std::filesystem::exists(command.output)) << "no file is left behind";
}

TEST(DataCommand, MeasuresTheLoader) {
  const Command command;
  const ProcessResult result =
      data_command({"--config-file", command.config, "--json", "--bench", "--max-workers", "3", "--seconds", "0.05"});
  ASSERT_EQ(result.status, 0) << result.err;
  const Json bench = Json::parse(result.out).at("bench");
  ASSERT_EQ(bench.size(), 4u);
  for (std::size_t workers = 0; workers < 4; ++workers) {
    EXPECT_EQ(bench.at(workers).at("workers"), workers);
    EXPECT_GT(bench.at(workers).at("images_per_second").get<double>(), 0);
    EXPECT_GE(bench.at(workers).at("wait_decode_seconds").get<double>(), 0);
  }
  EXPECT_LT(bench.at(0).at("slowest_sample").get<int>(), 256);
  const ProcessResult text =
      data_command({"--config-file", command.config, "--bench", "--max-workers", "1", "--seconds", "0.01"});
  EXPECT_TRUE(contains(text.out, "workers   images/s   decoding  collating     worker  slowest\n")) << text.out;
}

TEST(DataCommand, DescribesAFolderOfPictures) {
  const TemporaryFolder folder;
  for (int i = 0; i < 12; ++i) {
    const std::filesystem::path place = folder.path() / (i < 9 ? "cat" : "dog");
    std::filesystem::create_directories(place);
    save_png(Image(10 + i, 15, {1, 2, 3}), place / (std::to_string(i) + ".png"));
  }
  const std::string name = "('image_folder:" + folder.path().string() + "',)";
  const ProcessResult result = data_command({"DATASETS.TRAIN", name, "DATASETS.TEST", "()"});
  ASSERT_EQ(result.status, 0) << result.err;
  EXPECT_TRUE(contains(result.out, "    0  cat            9   75.0 %\n")) << result.out;
  EXPECT_TRUE(contains(result.out, "  height  10 to 21 pixels, 16 in the middle\n")) << result.out;
  EXPECT_TRUE(contains(result.out, "  width   15 to 15 pixels, 15 in the middle\n")) << result.out;
  EXPECT_TRUE(contains(result.out, "  5 images are wider than high, 7 are not\n")) << result.out;
}

TEST(DataCommand, JsonIsWholeWhateverIsWarnedOfAndHoweverFoldersAreCalled) {
  const TemporaryFolder folder;
  for (const char* name : {"caf\xe9", "a\x1b[31m"}) {
    std::filesystem::create_directories(folder.path() / name);
    save_png(Image(10, 15, {1, 2, 3}), folder.path() / name / "a.png");
  }
  write_text(folder / "old.yaml", "SEED: 1\n");  // without a VERSION, which is warned of
  const Words words = {"--config-file", folder / "old.yaml", "DATASETS.TRAIN",
                       "('image_folder:" + folder.path().string() + "',)"};
  Words as_json = words;
  as_json.push_back("--json");
  const ProcessResult result = data_command(as_json);
  EXPECT_EQ(result.status, 0) << result.err;
  EXPECT_TRUE(contains(result.err, "VERSION")) << result.err;
  EXPECT_EQ(Json::parse(result.out)["DATASETS.TRAIN"][0]["classes"].size(), 2u);
  EXPECT_TRUE(contains(data_command(words).out, "a\\x1b[31m"));
}

TEST(DataCommand, WrongUse) {
  const Command command;
  const Words bad[] = {{"DATASETS.TRAIN", "('fashion_mnist_trian',)"},
                       {"DATASETS.TRAIN", "('image_folder:/absent',)"},
                       {"DATALOADER.SAMPLER_TRAIN", "Nothing", "TREADLE.DATALOADER.PREFETCH", "1"}};
  for (const Words& words : bad) {
    Words arguments = {"--config-file", command.config, "--bench"};
    arguments.insert(arguments.end(), words.begin(), words.end());
    const ProcessResult result = data_command(arguments);
    EXPECT_EQ(result.status, 1) << testing::PrintToString(words);
    EXPECT_EQ(lines_of(result.err).size(), 1u) << result.err;
  }
  for (const Words& words : {Words{"--seconds", "long"}, {"--seconds", "0"}, {"--seconds", "nan"}, {"--max-workers", "-1"}})
    EXPECT_EQ(data_command(words).status, 2) << testing::PrintToString(words);
  EXPECT_EQ(data_command({}).status, 1);
  EXPECT_TRUE(contains(data_command({}).err, "DATASETS.TRAIN"));
  EXPECT_EQ(data_command({"--bench", "DATASETS.TRAIN", "()"}).status, 1);
  EXPECT_TRUE(contains(data_command({"--help"}).out, "--bench"));
}

TEST(DataReport, ListsClassesWithoutSamplesAndSamplesWithoutNames) {
  const TensorDataset dataset({{"label", at::arange(4).add(1)}});
  const DataReport report = describe_dataset("mine", dataset, {"a", "b"});
  std::vector<std::string> found;
  for (const DataReport::Class& item : report.classes)
    found.push_back(std::to_string(item.label) + item.name + std::to_string(item.samples));
  EXPECT_EQ(found, (std::vector<std::string>{"0a0", "1b1", "21", "31", "41"}));
  EXPECT_TRUE(report.sizes.empty());
  const DataReport unknown = describe_dataset("mine", TensorDataset({{"x", at::arange(4)}}), {"a"});
  EXPECT_TRUE(unknown.classes.empty());
  EXPECT_EQ(unknown.samples, 4);
}

}  // namespace
}  // namespace treadle

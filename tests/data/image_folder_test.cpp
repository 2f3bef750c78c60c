#include <treadle/base/errors.hpp>
#include <treadle/data/data_loader.hpp>
#include <treadle/data/dataset_catalog.hpp>
#include <treadle/data/image_folder.hpp>

#include <ATen/ops/zeros.h>
#include <gtest/gtest.h>

#include "tests/support/temporary_folder.hpp"

namespace treadle {
namespace {

namespace fs = std::filesystem;

class Folder : public testing::Test {
 protected:
  Folder() {
    for (const char* name : {"cat/10.png", "cat/9.PNG", "cat/deep/1.png", "dog/a.png", "cat/.hidden.png", ".git/x.png"}) {
      fs::create_directories((root_ / name).parent_path());
      save_png(Image(2, 3, {static_cast<std::uint8_t>(next_grey_ += 10)}), root_ / name);
    }
    write_text(root_ / "cat/notes.txt", "no picture");
    write_text(root_ / "README", "no class");
  }
  std::string relative(const ImageFolder& folder, std::int64_t index) { return fs::relative(folder.file(index), root_).string(); }

  TemporaryFolder folder_;
  fs::path root_ = folder_.path();
  int next_grey_ = 0;
  Rng rng_;
};

TEST_F(Folder, ClassesByFolderInAFixedOrder) {
  const ImageFolder folder({.root = root_});
  EXPECT_EQ(folder.class_names(), (std::vector<std::string>{"cat", "dog"}));
  ASSERT_EQ(folder.size(), 4);
  std::vector<std::string> files;
  std::vector<std::int64_t> labels;
  for (std::int64_t i = 0; i < 4; ++i) {
    files.push_back(relative(folder, i));
    const Sample sample = folder.get(i, rng_);
    labels.push_back(sample.at("label").as_int());
    EXPECT_EQ(folder.label(i), labels.back());
    EXPECT_EQ(sample.at("image").as_tensor().sizes(), (at::IntArrayRef{3, 2, 3}));
    EXPECT_EQ(folder.image_size(i), (ImageSize{2, 3}));
  }
  ImageFolderOptions small = {.root = folder.file(0).parent_path().parent_path()};
  small.decode.max_pixels = 5;
  EXPECT_THROW(ImageFolder(small).image_size(0), FormatError) << "of 6 pixels";
  EXPECT_EQ(files, (std::vector<std::string>{"cat/10.png", "cat/9.PNG", "cat/deep/1.png", "dog/a.png"}));
  EXPECT_EQ(labels, (std::vector<std::int64_t>{0, 0, 0, 1}));
  EXPECT_EQ(folder.get(1, rng_).at("image").as_tensor()[2][1][2].item<int>(), 20) << "channel, row, column of the second file";
  EXPECT_THROW(folder.get(4, rng_), Error);
}

TEST_F(Folder, TheOrderOfClassesMayBeGiven) {
  const ImageFolder folder({.root = root_, .classes = {"dog", "cat"}});
  EXPECT_EQ(relative(folder, 0), "dog/a.png");
  EXPECT_EQ(folder.label(3), 1);
  const ImageFolder grey({.root = root_, .classes = {"dog"}, .decode = {.mode = ColourMode::grey}});
  EXPECT_EQ(grey.get(0, rng_).at("image").as_tensor().size(0), 1);
}

TEST_F(Folder, ChannelsInTheOrderAskedFor) {
  save_png(Image(2, 2, {10, 20, 30}), root_ / "dog/a.png");
  const auto first_pixel = [&](const DatasetOptions& options) {
    const at::Tensor image = make_dataset("image_folder:.", options)->get(3, rng_).at("image").as_tensor();
    std::vector<int> channels;
    for (std::int64_t i = 0; i < image.size(0); ++i) channels.push_back(image[i][1][0].item<int>());
    return channels;
  };
  EXPECT_EQ(first_pixel({.root = root_}), (std::vector<int>{10, 20, 30}));
  EXPECT_EQ(first_pixel({.root = root_, .mode = ColourMode::bgr}), (std::vector<int>{30, 20, 10}));
  EXPECT_EQ(first_pixel({.root = root_, .mode = ColourMode::grey}).size(), 1u);
}

TEST_F(Folder, ItHoldsPicturesAndSoDoWhatIsMadeOfIt) {
  const auto folder = std::make_shared<ImageFolder>(ImageFolderOptions{.root = root_});
  const auto other = std::make_shared<TensorDataset>(Dict{{"x", at::zeros({2, 1})}});
  EXPECT_TRUE(folder->has_pictures());
  EXPECT_FALSE(other->has_pictures());
  EXPECT_TRUE(SubsetDataset(folder, {1}).has_pictures());
  EXPECT_FALSE(SubsetDataset(other, {1}).has_pictures());
  EXPECT_TRUE(ConcatDataset({other, folder}).has_pictures());
  EXPECT_FALSE(ConcatDataset({other, other}).has_pictures());
  const Transform nothing = [](Sample sample, Rng&) { return sample; };
  EXPECT_TRUE(MapDataset(folder, nothing).has_pictures());
  EXPECT_FALSE(MapDataset(other, nothing).has_pictures());
}

TEST_F(Folder, SaysWhatIsMissing) {
  EXPECT_THROW(ImageFolder({.root = root_ / "absent"}), IoError);
  EXPECT_THROW(ImageFolder({.root = root_ / "cat/deep"}), FormatError) << "no class";
  EXPECT_THROW(ImageFolder({.root = root_, .classes = {"cow"}}), IoError);
  fs::create_directories(root_ / "empty");
  EXPECT_THROW(ImageFolder({.root = root_}), FormatError) << "a class without a picture";
  EXPECT_THROW(validate(ImageFolderOptions{}), ConfigError);
  EXPECT_THROW(validate(ImageFolderOptions{.root = "r", .classes = {"a", "a"}}), ConfigError);
  EXPECT_THROW(validate(ImageFolderOptions{.root = "r", .decode = {.least_side = -1}}), ConfigError);
}

TEST_F(Folder, ACorruptImageIsSaidWithFileAndByteOrLeftOut) {
  const std::string good = read_text(root_ / "cat/9.PNG");
  write_text(root_ / "cat/9.PNG", good.substr(0, good.size() / 2));
  const auto dataset = std::make_shared<ImageFolder>(ImageFolderOptions{.root = root_});
  const auto loader = [&](std::int64_t max_skipped, int workers) {
    return std::make_unique<DataLoader>(
        dataset, std::make_unique<SequentialSampler>(4),
        DataLoaderOptions{.batch_size = 4, .num_workers = workers, .max_skipped = max_skipped, .name = "pets"});
  };
  for (int workers : {0, 2}) {
    try {
      loader(0, workers)->next();
      ADD_FAILURE();
    } catch (const SampleError& error) {
      EXPECT_EQ(error.index(), 1);
      const std::string what = error.what();
      EXPECT_TRUE(what.starts_with("sample 1 of \"pets\": \"" + (root_ / "cat/9.PNG").string() + "\" at byte ")) << what;
    }
    const auto lenient = loader(1, workers);
    EXPECT_EQ(lenient->next()->ids(), (std::vector<std::int64_t>{0, 2, 3}));
    EXPECT_EQ(lenient->skipped(), 1);
  }
}

TEST_F(Folder, CanBeSpokenOfByName) {
  const auto dataset = make_dataset("image_folder:cat/..", {.root = root_});
  EXPECT_EQ(dataset->size(), 4);
  EXPECT_EQ(class_names_of("image_folder:cat/..", *dataset), (std::vector<std::string>{"cat", "dog"}));
  EXPECT_EQ(make_dataset("image_folder:" + root_.string())->size(), 4);
  write_text(root_ / "t.csv", "a,b\n1,2\n3,1\n");
  Rng rng;
  EXPECT_EQ(make_dataset("csv:t.csv", {.root = root_})->get(0, rng).at("x").as_tensor().numel(), 2);
  EXPECT_EQ(make_dataset("csv:t.csv:a", {.root = root_})->get(0, rng).at("y").as_tensor().item<float>(), 1);
  EXPECT_EQ(make_dataset("csv:t.csv:b:3", {.root = root_})->get(0, rng).at("label").as_int(), 2);
  for (const char* bad : {"csv:t.csv:b:x", "csv:t.csv:b:0", "csv:", "image_folder:", "csw:t.csv"})
    EXPECT_THROW(make_dataset(bad), ConfigError) << bad;
}

}  // namespace
}  // namespace treadle

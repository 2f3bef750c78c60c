// INPUT.* as Detectron2 means it: what a loader made from a config gives of the pictures of a folder.
#include <tests/defaults/options_support.hpp>
#include <tests/support/temporary_folder.hpp>
#include <treadle/base/log.hpp>
#include <treadle/data/batch_source.hpp>
#include <treadle/defaults.hpp>
#include <treadle/image/image.hpp>

#include <ATen/ops/zeros.h>
#include <gtest/gtest.h>

#include <set>

namespace treadle {
namespace {

namespace fs = std::filesystem;
using Words = std::vector<std::string>;

struct InputKeys : testing::Test {
  TemporaryFolder folder;
  LogCapture quiet{[](LogLevel, std::string_view) {}};

  /// Pictures of 40 x 60 pixels, dark left and top, whose channels differ.
  InputKeys() {
    for (const std::string name : {"a", "b"}) {
      fs::create_directories(folder.path() / "train" / name);
      Image picture(40, 60, {10, 20, 30});
      for (std::int64_t row = 20; row < 40; ++row) {
        for (std::int64_t column = 30; column < 60; ++column) *picture.at(row, column) = 200;
      }
      save_png(picture, folder.path() / "train" / name / "1.png");
      save_png(picture, folder.path() / "train" / name / "2.png");
    }
  }

  Config config(const Words& overrides) const {
    Words all = {"DATASETS.TRAIN",
                 "('image_folder:train',)",
                 "DATASETS.TEST",
                 "('image_folder:train',)",
                 "TREADLE.DATA_DIR",
                 folder.path().string(),
                 "MODEL.DEVICE",
                 "cpu",
                 "SOLVER.IMS_PER_BATCH",
                 "1",
                 "DATALOADER.NUM_WORKERS",
                 "0",
                 "SEED",
                 "5",
                 "INPUT.RANDOM_FLIP",
                 "none",
                 "INPUT.MIN_SIZE_TRAIN",
                 "(20,)"};
    all.insert(all.end(), overrides.begin(), overrides.end());
    return with(all);
  }
  at::Tensor train_image(const Words& overrides) const { return train_images(overrides, 1).front(); }
  std::vector<at::Tensor> train_images(const Words& overrides, int count) const {
    const auto source = default_builders().train_loader(config(overrides), make_single_process_group());
    std::vector<at::Tensor> images;
    for (int i = 0; i < count; ++i) images.push_back(source->next()->tensor("image")[0].clone());
    return images;
  }
  at::Tensor test_image(const Words& overrides) const {
    return default_builders()
        .test_loader(config(overrides), "image_folder:train", make_single_process_group())
        ->next()
        ->tensor("image")[0];
  }
  std::string wrong(const Words& overrides) const {
    try {
      train_image(overrides);
      test_image(overrides);
    } catch (const ConfigError& error) {
      return error.what();
    }
    return "";
  }
};

ImageSize size_of(const at::Tensor& image) { return {image.size(1), image.size(2)}; }

TEST_F(InputKeys, TheShorterSideIsDrawnAndTheLongerOneLimited) {
  EXPECT_EQ(size_of(train_image({})), (ImageSize{20, 30}));
  EXPECT_EQ(size_of(train_image({"INPUT.MAX_SIZE_TRAIN", "24"})), (ImageSize{16, 24}));
  EXPECT_EQ(size_of(train_image({"INPUT.MIN_SIZE_TRAIN", "(0,)"})), (ImageSize{40, 60})) << "as it is";
  const auto heights = [&](const Words& overrides) {
    std::set<std::int64_t> all;
    for (const at::Tensor& image : train_images(overrides, 60)) all.insert(image.size(1));
    return all;
  };
  EXPECT_EQ(heights({"INPUT.MIN_SIZE_TRAIN", "(10, 13)"}), (std::set<std::int64_t>{10, 13}));
  EXPECT_EQ(heights({"INPUT.MIN_SIZE_TRAIN", "(10, 13)", "INPUT.MIN_SIZE_TRAIN_SAMPLING", "range"}),
            (std::set<std::int64_t>{10, 11, 12, 13}));
}

TEST_F(InputKeys, EvaluationHasSizesOfItsOwn) {
  EXPECT_EQ(size_of(test_image({"INPUT.MIN_SIZE_TEST", "10"})), (ImageSize{10, 15}));
  EXPECT_EQ(size_of(test_image({"INPUT.MIN_SIZE_TEST", "10", "INPUT.MAX_SIZE_TEST", "12"})), (ImageSize{8, 12}));
  EXPECT_EQ(size_of(test_image({"INPUT.MIN_SIZE_TEST", "0"})), (ImageSize{40, 60}));
  EXPECT_EQ(size_of(test_image({})), (ImageSize{800, 1200})) << "Detectron2's default";
  const Words random = {"INPUT.MIN_SIZE_TEST", "0", "INPUT.CROP.ENABLED", "True", "INPUT.RANDOM_FLIP", "vertical"};
  EXPECT_TRUE(test_image(random).equal(test_image({"INPUT.MIN_SIZE_TEST", "0"}))) << "nothing is left to chance";
}

TEST_F(InputKeys, CropsComeAheadOfResizing) {
  const auto cropped = [&](const std::string& type, const std::string& size, const std::string& shorter = "(0,)") {
    return size_of(train_image(
        {"INPUT.CROP.ENABLED", "True", "INPUT.CROP.TYPE", type, "INPUT.CROP.SIZE", size, "INPUT.MIN_SIZE_TRAIN", shorter}));
  };
  EXPECT_EQ(cropped("relative", "[0.5, 0.25]"), (ImageSize{20, 15}));
  EXPECT_EQ(cropped("absolute", "[12, 24]"), (ImageSize{12, 24}));
  EXPECT_EQ(cropped("absolute", "[12, 24]", "(6,)"), (ImageSize{6, 12}));
  EXPECT_EQ(cropped("absolute_range", "[7, 7]"), (ImageSize{7, 7}));
  const ImageSize ranged = cropped("relative_range", "[0.5, 1.0]");
  EXPECT_GE(ranged.height, 20);
  EXPECT_EQ(ranged.width, 60);
}

TEST_F(InputKeys, FlipsAndChannels) {
  const Words whole = {"INPUT.MIN_SIZE_TRAIN", "(0,)"};
  const auto bright_corners = [&](const std::string& flip) {
    Words settings = whole;
    settings.insert(settings.end(), {"INPUT.RANDOM_FLIP", flip, "INPUT.FORMAT", "RGB"});
    std::set<std::pair<bool, bool>> corners;  // bottom, right
    for (const at::Tensor& image : train_images(settings, 40)) {
      for (const bool bottom : {false, true}) {
        for (const bool right : {false, true}) {
          if (image[0][bottom ? 39 : 0][right ? 59 : 0].item<int>() == 200) corners.insert({bottom, right});
        }
      }
    }
    return corners;
  };
  using Corners = std::set<std::pair<bool, bool>>;
  EXPECT_EQ(bright_corners("none"), (Corners{{true, true}}));
  EXPECT_EQ(bright_corners("horizontal"), (Corners{{true, true}, {true, false}}));
  EXPECT_EQ(bright_corners("vertical"), (Corners{{true, true}, {false, true}}));

  const auto first_pixel = [](const at::Tensor& image) {
    std::vector<int> channels;
    for (std::int64_t c = 0; c < image.size(0); ++c) channels.push_back(image[c][0][0].item<int>());
    return channels;
  };
  EXPECT_EQ(first_pixel(train_image({"INPUT.FORMAT", "RGB"})), (std::vector<int>{10, 20, 30}));
  EXPECT_EQ(first_pixel(train_image({"INPUT.FORMAT", "BGR"})), (std::vector<int>{30, 20, 10}));
  EXPECT_EQ(first_pixel(test_image({"INPUT.FORMAT", "BGR"})), (std::vector<int>{30, 20, 10}));
  EXPECT_EQ(first_pixel(train_image({"INPUT.FORMAT", "L"})), (std::vector<int>{18})) << "0.299 R + 0.587 G + 0.114 B";
}

TEST_F(InputKeys, WhatIsNotSupportedIsSaidWithItsKey) {
  const auto expect = [&](const std::string& key, const std::string& value, const Words& more = {}) {
    Words settings = {key, value};
    settings.insert(settings.end(), more.begin(), more.end());
    EXPECT_NE(wrong(settings).find(key + " is "), std::string::npos) << key << ": " << wrong(settings);
  };
  expect("INPUT.FORMAT", "YUV-BT.601");
  expect("INPUT.RANDOM_FLIP", "sideways");
  expect("INPUT.MIN_SIZE_TRAIN", "()");
  expect("INPUT.MIN_SIZE_TRAIN", "(-1,)");
  expect("INPUT.MIN_SIZE_TRAIN", "(10, 20, 30)", {"INPUT.MIN_SIZE_TRAIN_SAMPLING", "range"});
  expect("INPUT.MIN_SIZE_TRAIN_SAMPLING", "uniform");
  expect("INPUT.MAX_SIZE_TRAIN", "0");
  expect("INPUT.MIN_SIZE_TEST", "-1");
  expect("INPUT.MAX_SIZE_TEST", "0");
  const Words crop = {"INPUT.CROP.ENABLED", "True"};
  expect("INPUT.CROP.TYPE", "square", crop);
  expect("INPUT.CROP.SIZE", "[0.5]", crop);
  expect("INPUT.CROP.SIZE", "[0.5, 1.5]", crop);
  const TensorDataset other(Dict{{"image", at::zeros({2, 1, 4, 4})}});
  EXPECT_THROW(train_transform(config({"INPUT.CROP.ENABLED", "True"}), other), ConfigError);
  EXPECT_FALSE(train_transform(config({}), other)) << "images that have their size already";
  EXPECT_TRUE(train_transform(config({"INPUT.RANDOM_FLIP", "horizontal"}), other));
  EXPECT_FALSE(test_transform(config({}), other));
}

}  // namespace
}  // namespace treadle

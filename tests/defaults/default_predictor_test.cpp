#include <tests/defaults/tiny_run.hpp>
#include <treadle/base/log.hpp>
#include <treadle/defaults.hpp>
#include <treadle/image/image.hpp>
#include <treadle/models/make_model.hpp>

#include <ATen/ops/arange.h>
#include <gtest/gtest.h>

namespace treadle {
namespace {

struct DefaultPredictorTest : testing::Test {
  TinyRun run;
  TemporaryFolder output;
  LogCapture quiet{[](LogLevel, std::string_view) {}};
};

TEST_F(DefaultPredictorTest, PredictsWhatTheTrainedModelPredicts) {
  DefaultTrainer trainer(run.config(output / "run"), nullptr);
  trainer.train();
  DefaultPredictor predictor(
      run.config(output / "run", {"MODEL.WEIGHTS", output / "run/model_final.pth", "INPUT.MIN_SIZE_TEST", "0"}));
  EXPECT_FALSE(predictor.model().is_training());
  EXPECT_EQ(predictor.metadata().class_names.size(), 10u);

  DatasetOptions where{.root = run.data.path()};
  const auto data = make_dataset("fashion_mnist_test", where);
  Rng rng;
  const Sample sample = data->get(5, rng);
  const at::Tensor pixels = sample.at("image").as_tensor();
  const Dict one = predictor(Image(pixels.permute({1, 2, 0}).contiguous()));
  set_training(trainer.model(), false);
  const c10::InferenceMode inference;
  const List expected = trainer.model().predict(Batch(Dict{{"image", pixels.unsqueeze(0)}}));
  EXPECT_TRUE(one.at("scores").as_tensor().equal(expected[0].as_dict().at("scores").as_tensor()));
}

TEST_F(DefaultPredictorTest, ChannelsStandInTheOrderOfTheConfig) {
  DefaultTrainer trainer(run.config(output / "run", {"SOLVER.MAX_ITER", "1", "SOLVER.WARMUP_ITERS", "0", "DATASETS.TEST", "()"}),
                         nullptr);
  trainer.train();
  // A model that gives back what it is given; it takes nothing from the checkpoint.
  Builders builders = default_builders();
  builders.model = [](const Config&) {
    return make_model(
        std::make_shared<torch::nn::Module>("echo"), [](auto&, const Batch&) -> LossDict { return {}; },
        [](auto&, const Batch& batch) {
          return List{
              Dict{{"image", batch.tensor("image")}, {"height", batch.list("height")[0]}, {"width", batch.list("width")[0]}}};
        });
  };
  const at::Tensor pixels = at::arange(24).to(at::kByte).view({2, 4, 3});
  for (const std::string format : {"RGB", "BGR"}) {
    DefaultPredictor predictor(
        run.config(output / "run", {"MODEL.WEIGHTS", output / "run/model_final.pth", "INPUT.FORMAT", format, "MODEL.PIXEL_MEAN",
                                    "[0.0, 0.0, 0.0]", "INPUT.MIN_SIZE_TEST", "0"}),
        builders);
    const Dict given = predictor(Image(pixels));
    EXPECT_EQ(given.at("height").as_int(), 2);
    EXPECT_EQ(given.at("width").as_int(), 4);
    const at::Tensor image = given.at("image").as_tensor();
    ASSERT_EQ(image.sizes(), (std::vector<std::int64_t>{1, 3, 2, 4}));
    for (std::int64_t c = 0; c < 3; ++c) {
      EXPECT_TRUE(image[0][c].equal(pixels.select(2, format == "RGB" ? c : 2 - c))) << format << c;
    }
    EXPECT_THROW(predictor(Image(2, 2, {0})), FormatError);
  }
  // Resized as a loader of pictures resizes them; height and width stay those of the picture.
  DefaultPredictor resizing(
      run.config(output / "run", {"MODEL.WEIGHTS", output / "run/model_final.pth", "MODEL.PIXEL_MEAN", "[0.0, 0.0, 0.0]",
                                  "INPUT.FORMAT", "RGB", "INPUT.MIN_SIZE_TEST", "3", "INPUT.MAX_SIZE_TEST", "5"}),
      builders);
  const Dict given = resizing(Image(pixels));
  EXPECT_EQ(given.at("height").as_int(), 2);
  EXPECT_EQ(given.at("width").as_int(), 4);
  Rng rng;
  const at::Tensor expected =
      resize_shortest_edge({.sizes = {3}, .max_size = 5})({{"image", pixels.permute({2, 0, 1})}}, rng).at("image").as_tensor();
  ASSERT_EQ(expected.sizes(), (std::vector<std::int64_t>{3, 3, 5}));
  EXPECT_TRUE(given.at("image").as_tensor()[0].equal(expected));
}

TEST_F(DefaultPredictorTest, WhatIsMissingIsSaid) {
  EXPECT_THROW(DefaultPredictor(run.config(output / "run")), ConfigError);
  EXPECT_THROW(DefaultPredictor(run.config(output / "run", {"MODEL.WEIGHTS", output / "absent.pth"})), IoError);
  EXPECT_THROW(DefaultPredictor(run.config(output / "run", {"MODEL.WEIGHTS", "a", "INPUT.FORMAT", "YUV"})), ConfigError);
}

}  // namespace
}  // namespace treadle

#include <tests/defaults/options_support.hpp>
#include <treadle/base/errors.hpp>
#include <treadle/defaults/options.hpp>
#include <treadle/models/image_classifier.hpp>
#include <treadle/models/scripted_model.hpp>

#include <gtest/gtest.h>

namespace treadle {
namespace {

TEST(Options, ModelTakesItsKeys) {
  const auto options = model_options(with({"MODEL.BACKBONE.NAME", "Net", "MODEL.PIXEL_MEAN", "[1.0, 2.0]", "MODEL.PIXEL_STD",
                                           "[3.0, 4]", "TREADLE.CLASSIFIER.IN_CHANNELS", "2", "TREADLE.CLASSIFIER.IMAGE_SIZE",
                                           "32", "TREADLE.CLASSIFIER.NUM_CLASSES", "7", "TREADLE.CLASSIFIER.DROPOUT", "0.125"}));
  EXPECT_EQ(options.backbone.name, "Net");
  EXPECT_EQ(options.backbone.in_channels, 2);
  EXPECT_EQ(options.backbone.image_size, 32);
  EXPECT_EQ(options.backbone.num_classes, 7);
  EXPECT_EQ(options.backbone.dropout, 0.125);
  EXPECT_EQ(options.pixel_mean, (std::vector<double>{1, 2}));
  EXPECT_EQ(options.pixel_std, (std::vector<double>{3, 4}));
}

TEST(Options, BackbonesAreDetectron2s) {
  const ImageClassifierOptions defaults = model_options(default_config());
  EXPECT_EQ(defaults.backbone.resnet.depth, 50);
  EXPECT_EQ(defaults.backbone.resnet.norm, "FrozenBN");
  EXPECT_EQ(defaults.backbone.resnet.freeze_at, 2);
  EXPECT_TRUE(defaults.backbone.resnet.stride_in_1x1);
  EXPECT_EQ(defaults.backbone.hidden, (std::vector<std::int64_t>{128}));
  const BackboneOptions set = model_options(with({"MODEL.RESNETS.DEPTH",
                                                  "101",
                                                  "MODEL.RESNETS.NORM",
                                                  "GN",
                                                  "MODEL.BACKBONE.FREEZE_AT",
                                                  "3",
                                                  "MODEL.RESNETS.STEM_OUT_CHANNELS",
                                                  "32",
                                                  "MODEL.RESNETS.RES2_OUT_CHANNELS",
                                                  "128",
                                                  "MODEL.RESNETS.NUM_GROUPS",
                                                  "8",
                                                  "MODEL.RESNETS.WIDTH_PER_GROUP",
                                                  "4",
                                                  "MODEL.RESNETS.STRIDE_IN_1X1",
                                                  "False",
                                                  "MODEL.RESNETS.RES5_DILATION",
                                                  "2",
                                                  "TREADLE.CLASSIFIER.HIDDEN",
                                                  "(7, 9)"}))
                                  .backbone;
  EXPECT_EQ(set.resnet.depth, 101);
  EXPECT_EQ(set.resnet.norm, "GN");
  EXPECT_EQ(set.resnet.freeze_at, 3);
  EXPECT_EQ(set.resnet.stem_out_channels, 32);
  EXPECT_EQ(set.resnet.res2_out_channels, 128);
  EXPECT_EQ(set.resnet.num_groups, 8);
  EXPECT_EQ(set.resnet.width_per_group, 4);
  EXPECT_FALSE(set.resnet.stride_in_1x1);
  EXPECT_EQ(set.resnet.res5_dilation, 2);
  EXPECT_EQ(set.hidden, (std::vector<std::int64_t>{7, 9}));
  EXPECT_FALSE(set.sync_batch_norm);
  EXPECT_TRUE(model_options(with({"TREADLE.DISTRIBUTED.SYNC_BATCH_NORM", "True"})).backbone.sync_batch_norm);
  EXPECT_NE(
      problem(model_options, {"MODEL.RESNETS.DEFORM_ON_PER_STAGE", "[True, False, False, False]"}).find("DEFORM_ON_PER_STAGE"),
      std::string::npos);
}

TEST(Options, AScriptSaysHowItIsMapped) {
  const ScriptedModelOptions defaults = scripted_model_options(default_config()), own;
  EXPECT_EQ(defaults.inputs, own.inputs);
  EXPECT_EQ(defaults.loss, own.loss);
  EXPECT_EQ(defaults.target, own.target);
  EXPECT_EQ(defaults.loss_method, own.loss_method);
  EXPECT_EQ(defaults.loss_inputs, own.loss_inputs);
  EXPECT_EQ(defaults.prediction, own.prediction);
  EXPECT_EQ(defaults.softmax, own.softmax);
  const ScriptedModelOptions set = scripted_model_options(
      with({"TREADLE.SCRIPTED.FILE", "a.pt", "TREADLE.SCRIPTED.INPUTS", "('x', 'm')", "TREADLE.SCRIPTED.LOSS", "method",
            "TREADLE.SCRIPTED.TARGET", "t", "TREADLE.SCRIPTED.LOSS_METHOD", "f", "TREADLE.SCRIPTED.LOSS_INPUTS", "('y',)",
            "TREADLE.SCRIPTED.PREDICTION", "p", "TREADLE.SCRIPTED.SOFTMAX", "False"}));
  EXPECT_EQ(set.file, "a.pt");
  EXPECT_EQ(set.inputs, (std::vector<std::string>{"x", "m"}));
  EXPECT_EQ(set.loss, ScriptedModelOptions::Loss::method);
  EXPECT_EQ(set.target, "t");
  EXPECT_EQ(set.loss_method, "f");
  EXPECT_EQ(set.loss_inputs, (std::vector<std::string>{"y"}));
  EXPECT_EQ(set.prediction, "p");
  EXPECT_FALSE(set.softmax);
  EXPECT_EQ(scripted_model_options(with({"TREADLE.SCRIPTED.LOSS", "mse"})).loss, ScriptedModelOptions::Loss::mse);
}

}  // namespace
}  // namespace treadle

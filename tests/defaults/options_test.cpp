#include <tests/defaults/options_support.hpp>
#include <tests/defaults/tiny_run.hpp>
#include <treadle/base/errors.hpp>
#include <treadle/defaults/options.hpp>
#include <treadle/engine/distributed_model.hpp>

#include <ATen/ops/tensor.h>
#include <gtest/gtest.h>

#include <map>

namespace treadle {
namespace {

using Words = std::vector<std::string>;

TEST(Options, OptimizerTakesItsKeys) {
  const auto options = optimizer_options(with({"SOLVER.BASE_LR",
                                               "0.3",
                                               "SOLVER.MOMENTUM",
                                               "0.8",
                                               "SOLVER.NESTEROV",
                                               "True",
                                               "SOLVER.WEIGHT_DECAY",
                                               "0.01",
                                               "SOLVER.WEIGHT_DECAY_NORM",
                                               "0.02",
                                               "SOLVER.WEIGHT_DECAY_BIAS",
                                               "0.03",
                                               "SOLVER.BIAS_LR_FACTOR",
                                               "2.0",
                                               "SOLVER.CLIP_GRADIENTS.ENABLED",
                                               "True",
                                               "SOLVER.CLIP_GRADIENTS.CLIP_TYPE",
                                               "norm",
                                               "SOLVER.CLIP_GRADIENTS.CLIP_VALUE",
                                               "5.0",
                                               "SOLVER.CLIP_GRADIENTS.NORM_TYPE",
                                               "1.0",
                                               "TREADLE.SOLVER.OPTIMIZER",
                                               "ADAMW",
                                               "TREADLE.SOLVER.FUSED",
                                               "True"}));
  EXPECT_EQ(options.name, "ADAMW");
  EXPECT_TRUE(options.fused);
  EXPECT_EQ(options.base_lr, 0.3);
  EXPECT_EQ(options.momentum, 0.8);
  EXPECT_TRUE(options.nesterov);
  EXPECT_EQ(options.weight_decay, 0.01);
  EXPECT_EQ(options.weight_decay_norm, 0.02);
  EXPECT_EQ(options.weight_decay_bias, 0.03);
  EXPECT_EQ(options.bias_lr_factor, 2);
  EXPECT_TRUE(options.clip.enabled);
  EXPECT_EQ(options.clip.type, clip_type_from_string("norm"));
  EXPECT_EQ(options.clip.clip_value, 5);
  EXPECT_EQ(options.clip.norm_type, 1);
  EXPECT_FALSE(optimizer_options(with({"SOLVER.WEIGHT_DECAY_BIAS", "None"})).weight_decay_bias.has_value());
}

TEST(Options, ANormThatIsNotFiniteIsPassedOnUnlessSaidOtherwise) {
  EXPECT_EQ(optimizer_options(with({})).clip.non_finite, NonFiniteNorm::pass);
  EXPECT_EQ(optimizer_options(with({"TREADLE.SOLVER.NON_FINITE_NORM", "error"})).clip.non_finite, NonFiniteNorm::error);
  EXPECT_EQ(optimizer_options(with({"TREADLE.SOLVER.NON_FINITE_NORM", "skip"})).clip.non_finite, NonFiniteNorm::skip);
  EXPECT_THROW(optimizer_options(with({"TREADLE.SOLVER.NON_FINITE_NORM", "stop"})), ConfigError);
}

TEST(Options, TheCurrentSettingsCountOnResumeUnlessSaidOtherwise) {
  EXPECT_EQ(resume_settings(with({})), ResumeSettings::current);
  EXPECT_EQ(resume_settings(with({"TREADLE.SOLVER.RESUME", "saved"})), ResumeSettings::saved);
  EXPECT_EQ(lr_scheduler_options(with({"TREADLE.SOLVER.RESUME", "saved"})).resume, ResumeSettings::saved);
  EXPECT_THROW(resume_settings(with({"TREADLE.SOLVER.RESUME", "older"})), ConfigError);
}

TEST(Options, TheTrainerTakesItsKeys) {
  const auto options = simple_trainer_options(
      with({"TREADLE.SOLVER.BATCHES_PER_STEP", "3", "TREADLE.SOLVER.NON_FINITE", "skip", "TREADLE.SOLVER.MAX_SKIPPED_STEPS", "7",
            "TREADLE.SOLVER.CHECK_GRADIENTS", "True", "TREADLE.SOLVER.RESUME", "saved", "TREADLE.SOLVER.GATHER_METRIC_PERIOD",
            "4", "TREADLE.SOLVER.ROLLBACK_PERIOD", "50", "TREADLE.SOLVER.MAX_ROLLBACKS", "2"}));
  EXPECT_EQ(options.gather_metric_period, 4);
  EXPECT_EQ(options.non_finite.rollback_period, 50);
  EXPECT_EQ(options.non_finite.max_rollbacks, 2);
  EXPECT_FALSE(options.async_write_metrics);
  EXPECT_TRUE(simple_trainer_options(with({"TREADLE.SOLVER.ASYNC_WRITE_METRICS", "True"})).async_write_metrics);
  EXPECT_EQ(simple_trainer_options(with({"TREADLE.SOLVER.NON_FINITE", "rollback"})).non_finite.action,
            NonFiniteAction::roll_back);
  EXPECT_THROW(simple_trainer_options(with({"TREADLE.SOLVER.ROLLBACK_PERIOD", "0"})), ConfigError);
  EXPECT_THROW(simple_trainer_options(with({"TREADLE.SOLVER.NON_FINITE", "skip", "TREADLE.SOLVER.ASYNC_WRITE_METRICS", "True"})),
               ConfigError);
  EXPECT_EQ(options.batches_per_step, 3);
  EXPECT_EQ(options.non_finite.action, NonFiniteAction::skip);
  EXPECT_EQ(options.non_finite.max_skips, 7);
  EXPECT_TRUE(options.non_finite.check_gradients);
  EXPECT_EQ(options.resume, ResumeSettings::saved);
  EXPECT_THROW(simple_trainer_options(with({"TREADLE.SOLVER.BATCHES_PER_STEP", "0"})), ConfigError);
  EXPECT_THROW(simple_trainer_options(with({"TREADLE.SOLVER.NON_FINITE", "hope"})), ConfigError);
}

TEST(Options, MixedPrecisionIsOffUnlessAskedFor) {
  EXPECT_FALSE(amp_options(with({})).has_value());
  EXPECT_EQ(amp_options(with({"SOLVER.AMP.ENABLED", "True"}))->precision, AmpPrecision::float16);
  EXPECT_EQ(amp_options(with({"SOLVER.AMP.ENABLED", "True", "TREADLE.SOLVER.AMP_PRECISION", "bfloat16"}))->precision,
            AmpPrecision::bfloat16);
  EXPECT_THROW(amp_options(with({"SOLVER.AMP.ENABLED", "True", "TREADLE.SOLVER.AMP_PRECISION", "int8"})), ConfigError);
}

TEST(Options, LRSchedulerTakesItsKeys) {
  const auto options = lr_scheduler_options(with({"SOLVER.LR_SCHEDULER_NAME",
                                                  "WarmupCosineLR",
                                                  "SOLVER.MAX_ITER",
                                                  "500",
                                                  "SOLVER.BASE_LR",
                                                  "0.3",
                                                  "SOLVER.BASE_LR_END",
                                                  "0.01",
                                                  "SOLVER.GAMMA",
                                                  "0.2",
                                                  "SOLVER.STEPS",
                                                  "(100, 200)",
                                                  "SOLVER.NUM_DECAYS",
                                                  "5",
                                                  "SOLVER.WARMUP_ITERS",
                                                  "50",
                                                  "SOLVER.WARMUP_FACTOR",
                                                  "0.25",
                                                  "SOLVER.WARMUP_METHOD",
                                                  "constant",
                                                  "SOLVER.RESCALE_INTERVAL",
                                                  "True"}));
  EXPECT_EQ(options.name, "WarmupCosineLR");
  EXPECT_EQ(options.max_iter, 500);
  EXPECT_EQ(options.base_lr, 0.3);
  EXPECT_EQ(options.base_lr_end, 0.01);
  EXPECT_EQ(options.gamma, 0.2);
  EXPECT_EQ(options.steps, (std::vector<double>{100, 200}));
  EXPECT_EQ(options.num_decays, 5);
  EXPECT_EQ(options.warmup_iters, 50);
  EXPECT_EQ(options.warmup_factor, 0.25);
  EXPECT_EQ(options.warmup_method, WarmupMethod::constant);
  EXPECT_TRUE(options.rescale_interval);
  EXPECT_THROW(lr_scheduler_options(with({"SOLVER.MAX_ITER", "0"})), ConfigError);
  EXPECT_THROW(lr_scheduler_options(with({"SOLVER.WARMUP_METHOD", "slow"})), ConfigError);
}

TEST(Options, LoadersTakeTheirKeys) {
  const Config config = with({"SOLVER.IMS_PER_BATCH", "24", "DATALOADER.NUM_WORKERS", "3", "SEED", "9", "INPUT.RANDOM_FLIP",
                              "none", "TREADLE.DATA_DIR", "/somewhere"});
  EXPECT_EQ(train_loader_options(config).total_batch_size, 24);
  EXPECT_EQ(train_loader_options(config).num_workers, 3);
  EXPECT_EQ(train_loader_options(config).seed, 9);
  EXPECT_EQ(test_loader_options(config).batch_size, 24);
  EXPECT_EQ(test_loader_options(config).num_workers, 3);
  EXPECT_EQ(dataset_options(config).root, "/somewhere");
  EXPECT_FALSE(train_loader_options(with({"SEED", "-1"})).seed.has_value());
  EXPECT_THROW(train_loader_options(with({"SOLVER.IMS_PER_BATCH", "0"})), ConfigError);
  EXPECT_THROW(train_loader_options(with({"DATALOADER.NUM_WORKERS", "-2"})), ConfigError);
  EXPECT_EQ(train_loader_options(with({"DATALOADER.NUM_WORKERS", "-1"})).num_workers, auto_workers);
}

TEST(Options, TrainLoaderTakesMore) {
  const TrainLoaderOptions plain = train_loader_options(default_config());
  EXPECT_EQ(plain.prefetch, 4);
  EXPECT_EQ(plain.max_skipped, 0);
  EXPECT_TRUE(plain.aspect_ratio_grouping) << "as in Detectron2";
  EXPECT_FALSE(plain.sampler);
  const TrainLoaderOptions options = train_loader_options(with(
      {"TREADLE.DATALOADER.PREFETCH", "7", "TREADLE.DATALOADER.MAX_SKIPPED", "3", "DATALOADER.ASPECT_RATIO_GROUPING", "False"}));
  EXPECT_EQ(options.prefetch, 7);
  EXPECT_EQ(options.max_skipped, 3);
  EXPECT_FALSE(options.aspect_ratio_grouping);
  EXPECT_THROW(train_loader_options(with({"TREADLE.DATALOADER.PREFETCH", "0"})), ConfigError);
  EXPECT_THROW(train_loader_options(with({"TREADLE.DATALOADER.MAX_SKIPPED", "-1"})), ConfigError);
}

/// Ten samples, of which three are of class 0 and one of class 7.
std::shared_ptr<const Dataset> ten_samples() {
  return std::make_shared<TensorDataset>(Dict{{"label", at::tensor({0, 0, 0, 1, 1, 1, 1, 1, 1, 7}, at::kLong)}});
}

std::map<std::int64_t, int> drawn_classes(const Words& settings, int count) {
  const auto dataset = ten_samples();
  const auto sampler = train_loader_options(with(settings)).sampler(*dataset, 3, nullptr);
  std::map<std::int64_t, int> classes;
  for (int i = 0; i < count; ++i) ++classes[dataset->label(sampler->next().value()).value()];
  return classes;
}

TEST(Options, SamplersByName) {
  const auto weighted = drawn_classes({"DATALOADER.SAMPLER_TRAIN", "WeightedTrainingSampler"}, 6000);
  for (const std::int64_t label : {0, 1, 7}) EXPECT_NEAR(weighted.at(label), 2000, 150) << "every class equally often";
  // Shares are 0.3, 0.6 and 0.1: with a threshold of 0.6 the factors are 2, 1 and 6, or their roots.
  const Words repeat = {"DATALOADER.SAMPLER_TRAIN",    "RepeatFactorTrainingSampler",
                        "DATALOADER.REPEAT_THRESHOLD", "0.6",
                        "DATALOADER.REPEAT_SQRT",      "False"};
  EXPECT_EQ(drawn_classes(repeat, 18 * 5), (std::map<std::int64_t, int>{{0, 30}, {1, 30}, {7, 30}}));
  Words root = repeat;
  root.back() = "True";
  EXPECT_LT(drawn_classes(root, 18 * 5).at(7), 30);
  const Words half = {"DATALOADER.SAMPLER_TRAIN", "RandomSubsetTrainingSampler", "TREADLE.DATALOADER.RANDOM_SUBSET_RATIO", "0.1"};
  EXPECT_EQ(drawn_classes(half, 50).size(), 1u) << "one sample of ten";
  EXPECT_THROW(train_loader_options(with({"DATALOADER.SAMPLER_TRAIN", "TrainingSampelr"})), ConfigError);
  EXPECT_THROW(train_loader_options(with({"DATALOADER.REPEAT_THRESHOLD", "-1.0"})), ConfigError);
  EXPECT_THROW(train_loader_options(with({"TREADLE.DATALOADER.RANDOM_SUBSET_RATIO", "1.5"})), ConfigError);
  const auto make = train_loader_options(with({"DATALOADER.SAMPLER_TRAIN", "WeightedTrainingSampler"})).sampler;
  EXPECT_THROW(make(TensorDataset({{"x", at::tensor({1.0})}}), 0, nullptr), ConfigError) << "no classes";
}

TEST(Options, EpochsAreIterations) {
  const auto loader = build_train_loader(ten_samples(), {.total_batch_size = 4, .num_workers = 0, .seed = 0}, nullptr);
  const auto iterations = [&](const Words& settings) {
    Config config = with(settings);
    apply_max_epochs(config, *loader);
    return config.get_int("SOLVER.MAX_ITER");
  };
  EXPECT_EQ(iterations({"SOLVER.MAX_ITER", "77"}), 77);
  EXPECT_EQ(iterations({"SOLVER.IMS_PER_BATCH", "4", "TREADLE.SOLVER.MAX_EPOCHS", "3.0"}), 8) << "30 / 4";
  EXPECT_EQ(iterations({"SOLVER.IMS_PER_BATCH", "4", "TREADLE.SOLVER.BATCHES_PER_STEP", "2", "TREADLE.SOLVER.MAX_EPOCHS", "3.0"}),
            4);
  const Words half = {"DATALOADER.SAMPLER_TRAIN",
                      "RandomSubsetTrainingSampler",
                      "TREADLE.DATALOADER.RANDOM_SUBSET_RATIO",
                      "0.5",
                      "SOLVER.IMS_PER_BATCH",
                      "1",
                      "TREADLE.SOLVER.MAX_EPOCHS",
                      "3.0"};
  Config subset = with(half);
  apply_max_epochs(subset, *build_train_loader(ten_samples(), train_loader_options(subset), nullptr));
  EXPECT_EQ(subset.get_int("SOLVER.MAX_ITER"), 15) << "3 passes over 5 samples";
  EXPECT_THROW(iterations({"TREADLE.SOLVER.MAX_EPOCHS", "-1.0"}), ConfigError);
  Config unknown = with({"TREADLE.SOLVER.MAX_EPOCHS", "1.0"});
  const auto endless = make_batch_source([]() -> std::optional<Batch> { return std::nullopt; });
  EXPECT_THROW(apply_max_epochs(unknown, *endless), ConfigError);
}

TEST(Options, SeveralProcessesTakeTheirKeys) {
  const DistributedOptions defaults = distributed_options(default_config()), own;
  EXPECT_EQ(defaults.gradients.compression, own.gradients.compression);
  EXPECT_EQ(defaults.gradients.find_unused_parameters, own.gradients.find_unused_parameters);
  EXPECT_EQ(defaults.gradients.bucket_cap_mb, own.gradients.bucket_cap_mb);
  EXPECT_EQ(defaults.gradients.first_bucket_cap_mb, own.gradients.first_bucket_cap_mb);
  EXPECT_EQ(defaults.broadcast_buffers, own.broadcast_buffers);
  const std::string compression = "TREADLE.DISTRIBUTED.GRADIENT_COMPRESSION";
  EXPECT_EQ(distributed_options(with({compression, "fp16"})).gradients.compression, GradientCompression::float16);
  EXPECT_EQ(distributed_options(with({compression, "bf16"})).gradients.compression, GradientCompression::bfloat16);
  for (const auto& [key, value] :
       {std::pair{compression, "fp8"}, std::pair{std::string("TREADLE.DISTRIBUTED.BUCKET_CAP_MB"), "0.0"},
        std::pair{std::string("TREADLE.DISTRIBUTED.FIRST_BUCKET_CAP_MB"), "-1.0"}}) {
    EXPECT_NE(problem(distributed_options, {key, value}).find(key), std::string::npos) << key;
  }
}

TEST(Options, HooksTakeTheirKeys) {
  const Config config = with({"SOLVER.CHECKPOINT_PERIOD", "77", "TREADLE.CHECKPOINT.MAX_TO_KEEP", "4", "TEST.EVAL_PERIOD", "33"});
  EXPECT_EQ(periodic_checkpointer_options(config).period, 77);
  EXPECT_EQ(periodic_checkpointer_options(config).max_to_keep, 4);
  EXPECT_FALSE(periodic_checkpointer_options(default_config()).max_to_keep.has_value());
  EXPECT_FALSE(periodic_checkpointer_options(default_config()).async);
  EXPECT_TRUE(periodic_checkpointer_options(with({"TREADLE.CHECKPOINT.ASYNC", "True"})).async);
  EXPECT_EQ(eval_hook_options(config).period, 33);
  EXPECT_THROW(periodic_checkpointer_options(with({"SOLVER.CHECKPOINT_PERIOD", "0"})), ConfigError);
  EXPECT_THROW(eval_hook_options(with({"TEST.EVAL_PERIOD", "-1"})), ConfigError);
}

/// What a function of options says about a config that is wrong.
TEST(Options, PreciseStatisticsAreOffUnlessAskedFor) {
  EXPECT_FALSE(precise_bn_options(default_config()));
  const auto options =
      precise_bn_options(with({"TEST.PRECISE_BN.ENABLED", "True", "TEST.PRECISE_BN.NUM_ITER", "7", "TEST.EVAL_PERIOD", "5"}));
  ASSERT_TRUE(options);
  EXPECT_EQ(options->num_iter, 7);
  EXPECT_EQ(options->period, 5);
  EXPECT_NE(problem(precise_bn_options, {"TEST.PRECISE_BN.ENABLED", "True", "TEST.PRECISE_BN.NUM_ITER", "0"})
                .find("TEST.PRECISE_BN.NUM_ITER"),
            std::string::npos);
}

TEST(Options, AveragesAreOffUnlessAskedFor) {
  EXPECT_FALSE(ema_options(default_config()));
  const auto options = ema_options(
      with({"TREADLE.EMA.ENABLED", "True", "TREADLE.EMA.DECAY", "0.5", "TREADLE.EMA.WARMUP", "True", "TREADLE.EMA.PERIOD", "3"}));
  ASSERT_TRUE(options);
  EXPECT_EQ(options->decay, 0.5);
  EXPECT_TRUE(options->warmup);
  EXPECT_EQ(options->period, 3);
  EXPECT_NE(problem(ema_options, {"TREADLE.EMA.ENABLED", "True", "TREADLE.EMA.DECAY", "1.0"}).find("TREADLE.EMA.DECAY"),
            std::string::npos);
  EXPECT_NE(problem(ema_options, {"TREADLE.EMA.ENABLED", "True", "TREADLE.EMA.PERIOD", "0"}).find("TREADLE.EMA.PERIOD"),
            std::string::npos);
}

TEST(Options, TheBestIsSavedByAMetric) {
  const std::vector<std::string> tested = {"DATASETS.TEST", "('a',)", "TREADLE.BEST_CHECKPOINT.METRIC", "x/y"};
  EXPECT_FALSE(best_checkpointer_options(default_config()));
  auto min = tested;
  min.insert(min.end(), {"TREADLE.BEST_CHECKPOINT.MODE", "min", "TEST.EVAL_PERIOD", "4"});
  const auto options = best_checkpointer_options(with(min));
  ASSERT_TRUE(options);
  EXPECT_EQ(options->metric, "x/y");
  EXPECT_EQ(options->mode, hooks::MetricMode::min);
  EXPECT_EQ(options->period, 4);
  auto bad = tested;
  bad.insert(bad.end(), {"TREADLE.BEST_CHECKPOINT.MODE", "best"});
  EXPECT_NE(problem(best_checkpointer_options, bad).find("TREADLE.BEST_CHECKPOINT.MODE"), std::string::npos);
  EXPECT_NE(
      problem(best_checkpointer_options, {"DATASETS.TEST", "()", "TREADLE.BEST_CHECKPOINT.METRIC", "x"}).find("DATASETS.TEST"),
      std::string::npos);
}

TEST(Options, ARunStopsEarlyByAMetric) {
  EXPECT_FALSE(early_stopping_options(default_config()));
  const auto options =
      early_stopping_options(with({"TREADLE.EARLY_STOPPING.METRIC", "total_loss", "TREADLE.EARLY_STOPPING.MODE", "min",
                                   "TREADLE.EARLY_STOPPING.PATIENCE", "3", "TREADLE.EARLY_STOPPING.MIN_DELTA", "0.25"}));
  ASSERT_TRUE(options);
  EXPECT_EQ(options->metric, "total_loss");
  EXPECT_EQ(options->mode, hooks::MetricMode::min);
  EXPECT_EQ(options->patience, 3);
  EXPECT_EQ(options->min_delta, 0.25);
  for (const auto& [key, value] :
       {std::pair{"TREADLE.EARLY_STOPPING.PATIENCE", "0"}, std::pair{"TREADLE.EARLY_STOPPING.MIN_DELTA", "-1.0"},
        std::pair{"TREADLE.EARLY_STOPPING.MODE", "up"}}) {
    EXPECT_NE(problem(early_stopping_options, {"TREADLE.EARLY_STOPPING.METRIC", "x", key, value}).find(key), std::string::npos);
  }
}

TEST(Options, DeviceMayBeAutomatic) {
  EXPECT_TRUE(device_option(with({"MODEL.DEVICE", "cpu"}), 0).is_cpu());
  EXPECT_NO_THROW(device_option(with({"MODEL.DEVICE", "auto"}), 0));
  try {
    device_option(with({"MODEL.DEVICE", "gpu"}), 0);
    FAIL();
  } catch (const ConfigError& error) {
    EXPECT_NE(std::string(error.what()).find("MODEL.DEVICE"), std::string::npos);
  }
}

TEST(Options, WhatIsNotThereIsRefusedRatherThanPassedOver) {
  EXPECT_NO_THROW(refuse_unsupported(default_config()));
  EXPECT_THROW(refuse_unsupported(with({"TEST.AUG.ENABLED", "True"})), ConfigError);
  EXPECT_THROW(refuse_unsupported(with({"VIS_PERIOD", "5"})), ConfigError);
}

}  // namespace
}  // namespace treadle

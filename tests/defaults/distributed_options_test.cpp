// What TREADLE.DISTRIBUTED says reaches a run of several processes.
#include "tests/support/ranks.hpp"

#include <tests/defaults/tiny_run.hpp>
#include <treadle/base/log.hpp>
#include <treadle/base/rng.hpp>
#include <treadle/checkpoint/file.hpp>
#include <treadle/defaults.hpp>
#include <treadle/engine/distributed_model.hpp>
#include <treadle/models/make_model.hpp>

#include <gtest/gtest.h>

namespace treadle {
namespace {

namespace fs = std::filesystem;

struct DistributedKeys : testing::Test {
  TinyRun run;
  TemporaryFolder output;

  /// Without randomness of its own a step depends on the whole batch alone, however many ranks share it.
  Config config(const std::string& name, std::vector<std::string> overrides) const {
    overrides.insert(overrides.end(), {"INPUT.RANDOM_FLIP", "none", "TREADLE.CLASSIFIER.DROPOUT", "0.0", "SOLVER.IMS_PER_BATCH",
                                       "12", "SOLVER.MAX_ITER", "3", "TEST.EVAL_PERIOD", "0", "DATASETS.TEST", "()"});
    return run.config(output / name, overrides);
  }
  /// Trains on `size` ranks; `check` looks at the trainer on every rank.
  void train(
      int size, const std::string& name, const std::vector<std::string>& overrides,
      const std::function<void(DefaultTrainer&)>& check = [](DefaultTrainer&) {}) const {
    expect_ranks(size, [&](Group& group) {
      const LogCapture quiet([](LogLevel, std::string_view) {});
      seed_everything(5);
      DefaultTrainer trainer(config(name, overrides), std::shared_ptr<Group>(std::shared_ptr<Group>(), &group));
      trainer.train();
      check(trainer);
    });
  }
  double largest_difference(const std::string& one, const std::string& other, const std::string& tensor) const {
    const auto read = [&](const std::string& name) {
      return load_checkpoint_file(output / (name + "/model_final.pth")).as_dict().at("model").as_dict().at(tensor).as_tensor();
    };
    return (read(one) - read(other)).abs().max().item<double>();
  }
};

TEST_F(DistributedKeys, ReachTheModel) {
  train(2, "plain", {}, [](DefaultTrainer& trainer) {
    const DistributedOptions& options = dynamic_cast<DistributedModel&>(trainer.model()).options();
    EXPECT_EQ(options.gradients.compression, GradientCompression::none);
    EXPECT_FALSE(options.broadcast_buffers);
    EXPECT_TRUE(options.gradients.gradient_as_bucket_view);
  });
  train(2, "keys",
        {"TREADLE.DISTRIBUTED.GRADIENT_COMPRESSION", "bf16", "TREADLE.DISTRIBUTED.FIND_UNUSED_PARAMETERS", "True",
         "TREADLE.DISTRIBUTED.GRADIENT_AS_BUCKET_VIEW", "False", "TREADLE.DISTRIBUTED.BROADCAST_BUFFERS", "True",
         "TREADLE.DISTRIBUTED.BUCKET_CAP_MB", "0.5", "TREADLE.DISTRIBUTED.FIRST_BUCKET_CAP_MB", "0.25"},
        [](DefaultTrainer& trainer) {
          const DistributedOptions& options = dynamic_cast<DistributedModel&>(trainer.model()).options();
          EXPECT_EQ(options.gradients.compression, GradientCompression::bfloat16);
          EXPECT_TRUE(options.gradients.find_unused_parameters);
          EXPECT_TRUE(options.broadcast_buffers);
          EXPECT_FALSE(options.gradients.gradient_as_bucket_view);
          EXPECT_EQ(options.gradients.bucket_cap_mb, 0.5);
          EXPECT_EQ(options.gradients.first_bucket_cap_mb, 0.25);
        });
  expect_ranks(2, [&](Group&) {
    const double compressed = largest_difference("plain", "keys", "backbone.output.weight");
    EXPECT_GT(compressed, 0);
    EXPECT_LT(compressed, 1e-2);
  });
}

TEST_F(DistributedKeys, BatchNormOverAllRanksIsThatOfTheWholeBatch) {
  // Exact statistics of the last batches are taken too: they need to know how many values those had over all ranks.
  for (const bool exact : {false, true}) {
    const std::string suffix = exact ? "_exact" : "";
    std::vector<std::string> settings = {"TEST.PRECISE_BN.ENABLED", exact ? "True" : "False", "TEST.PRECISE_BN.NUM_ITER", "2"};
    train(1, "alone" + suffix, settings);
    train(2, "own" + suffix, settings);
    settings.insert(settings.end(), {"TREADLE.DISTRIBUTED.SYNC_BATCH_NORM", "True"});
    train(2, "sync" + suffix, settings);
    train(3, "three" + suffix, settings);
    expect_ranks(2, [&](Group&) {
      for (const char* tensor : {"backbone.norm2.running_mean", "backbone.norm2.running_var"}) {
        const double other = largest_difference("alone" + suffix, "own" + suffix, tensor);
        EXPECT_LT(largest_difference("alone" + suffix, "sync" + suffix, tensor), 1e-2 * other) << tensor << exact;
        EXPECT_LT(largest_difference("alone" + suffix, "three" + suffix, tensor), 1e-2 * other) << tensor << exact;
      }
    });
  }
}

}  // namespace
}  // namespace treadle
